#include "tests/support/run_folder.h"

#include <sstream>

#include "tests/support/program.h"

namespace isthmus::testing {

std::vector<nlohmann::json> Records(const std::string& run) {
  std::vector<nlohmann::json> records;
  std::istringstream lines(ReadText(run + "/metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) records.push_back(nlohmann::json::parse(line));
  return records;
}

std::vector<double> Losses(const std::string& run) {
  std::vector<double> losses;
  for (const auto& record : Records(run)) {
    if (record.contains("train/loss")) losses.push_back(record["train/loss"]);
  }
  return losses;
}

}  // namespace isthmus::testing
