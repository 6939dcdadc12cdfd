// Turns text files into token shards.
#ifndef ISTHMUS_LAUNCH_COMMANDS_ENCODE_CORPUS_H_
#define ISTHMUS_LAUNCH_COMMANDS_ENCODE_CORPUS_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace isthmus {

struct CorpusEncoding {
  std::vector<std::string> files;  // as ReadDocuments accepts; no folders
  std::string text_field = "text";
  std::string tokenizer;  // SentencePiece model
  std::string folder;     // must be missing or empty; links are followed
  double validation_fraction = 0;
  int64_t shard_tokens = 1;  // a new shard begins after as many
};

struct EncodedCorpus {
  int64_t training_tokens = 0, validation_tokens = 0, training_documents = 0, validation_documents = 0;
};

// Writes folder/train/00000.ids, … and, with a validation_fraction, folder/validation/00000.ids, …. A document's index
// alone decides whether it goes to validation. A new folder appears when all of it is complete. An existing one gets
// both parts then. Obstacles are looked for before the work. If one shows up only at the end, the shards are kept, and
// the message says where. An error of the text or the disk on the way costs the unfinished shards. Earlier ones stay,
// and the message says where. Errors: of the readers; InvalidArgument for an empty corpus; AlreadyExists when the
// folder holds something; by errno.
absl::StatusOr<EncodedCorpus> EncodeCorpus(const CorpusEncoding& encoding);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_COMMANDS_ENCODE_CORPUS_H_
