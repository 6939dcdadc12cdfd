// A scope with another deadline.
#ifndef ISTHMUS_PARALLEL_DEADLINE_SCOPE_H_
#define ISTHMUS_PARALLEL_DEADLINE_SCOPE_H_

#include <absl/time/time.h>

#include "parallel/mesh.h"

namespace isthmus {

// Collectives of the mesh have `deadline` as long as the object lives. Afterwards they have the deadline that they had
// before. Scopes may lie within one another. The mesh must outlive the object.
class DeadlineScope {
 public:
  DeadlineScope(Mesh& mesh, absl::Duration deadline) : mesh_(mesh), before_(mesh.deadline()) {
    mesh_.set_deadline(deadline);
  }
  ~DeadlineScope() { mesh_.set_deadline(before_); }
  DeadlineScope(const DeadlineScope&) = delete;
  DeadlineScope& operator=(const DeadlineScope&) = delete;

 private:
  Mesh& mesh_;
  absl::Duration before_;
};

}  // namespace isthmus

#endif  // ISTHMUS_PARALLEL_DEADLINE_SCOPE_H_
