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
  std::vector<std::string> files;  // as ReadDocuments accepts
  std::string text_field = "text";
  std::string tokenizer;  // SentencePiece model
  std::string folder;     // must not be there, or be empty; links are followed
  double validation_fraction = 0;
  int64_t shard_tokens = 1;  // a new shard begins after as many
};

struct EncodedCorpus {
  int64_t training_tokens = 0, validation_tokens = 0, training_documents = 0, validation_documents = 0;
};

// Writes folder/train/00000.ids, … and, with a validation_fraction, folder/validation/00000.ids, …: a document goes to
// validation as a function of its index alone. A folder that is not there appears when all of it is complete; one that
// is there gets both parts then. What could stand in the way is found out before the work; what does so at its end all
// the same costs none of it: the message says where the shards are. Errors: of the readers; InvalidArgument for an
// empty corpus; AlreadyExists when the folder holds something; by errno.
absl::StatusOr<EncodedCorpus> EncodeCorpus(const CorpusEncoding& encoding);

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_COMMANDS_ENCODE_CORPUS_H_
