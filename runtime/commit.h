// The commit of the sources that the program was built from.
#ifndef ISTHMUS_RUNTIME_COMMIT_H_
#define ISTHMUS_RUNTIME_COMMIT_H_

namespace isthmus {

// Returns "4f2c9e1", with "-dirty" where files differed from it; empty if the sources were in no git repository. A build
// writes it anew whenever it changes (runtime/commit.cmake).
const char* SourceCommit();

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_COMMIT_H_
