// Documents of text files.
//
//   .txt[.gz|.zst]    one document per file
//   .jsonl[.gz|.zst]  one document per line: a JSON object whose field `text_field` is a string
#ifndef ISTHMUS_RUNTIME_DATA_DOCUMENT_READER_H_
#define ISTHMUS_RUNTIME_DATA_DOCUMENT_READER_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <functional>
#include <string>
#include <vector>

namespace isthmus {

// Calls visit(text) for the lines of the documents in order, each with its "\n" as it stands in the document. Calls
// end_of_document() after each document. Only in .txt files, and only by lines, may documents be larger than memory.
// Stops at the first error, including those of `visit`. Errors: those of LineReader; InvalidArgument "file:line: ..."
// for lines that are not such JSON objects or not UTF-8; InvalidArgument for other file name endings. An escaped half
// of a surrogate pair without the other half ("\ud800") is read as U+FFFD.
struct DocumentVisitor {
  std::function<absl::Status(const std::string& text)> visit;
  std::function<absl::Status()> end_of_document;
};
absl::Status ReadDocuments(const std::vector<std::string>& files, const std::string& text_field,
                           const DocumentVisitor& visitor);

// Names of files that ReadDocuments accepts, for messages.
inline constexpr char kTextFileNames[] = "files that end in .txt or .jsonl, also with .gz or .zst after it";

// Returns files as they are, and folders replaced by the text files in them, sorted by name. `left_out` gets the paths
// of all else that such a folder holds, in the same order: files of other names, and folders. Errors: NotFound for a
// path that does not exist or a folder without text files; by errno.
absl::StatusOr<std::vector<std::string>> FindTextFiles(absl::Span<const std::string> paths,
                                                       std::vector<std::string>& left_out);

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_DOCUMENT_READER_H_
