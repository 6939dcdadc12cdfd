// The files that a run left in its folder.
#ifndef ISTHMUS_TESTS_SUPPORT_RUN_FOLDER_H_
#define ISTHMUS_TESTS_SUPPORT_RUN_FOLDER_H_

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace isthmus::testing {

// The lines of metrics.jsonl. A line that is not whole throws.
std::vector<nlohmann::json> Records(const std::string& run);

// train/loss of every record that has it.
std::vector<double> Losses(const std::string& run);

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_RUN_FOLDER_H_
