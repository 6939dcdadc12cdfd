// Facts about the tokens of a vocabulary, which parts of a model may need.
#ifndef ISTHMUS_RUNTIME_DATA_TOKEN_TABLES_H_
#define ISTHMUS_RUNTIME_DATA_TOKEN_TABLES_H_

#include <cstdint>
#include <vector>

namespace isthmus {

struct TokenTables {
  std::vector<int32_t> clusters;  // [V] the cluster of each token, from 0 on; empty: none
  std::vector<uint64_t> counts;   // [V] how often each token occurs in the training data; empty: unknown
};

}  // namespace isthmus

#endif  // ISTHMUS_RUNTIME_DATA_TOKEN_TABLES_H_
