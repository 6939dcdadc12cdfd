#include "launch/sweep/decomposition_figures.h"

#include <absl/status/status.h>
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "runtime/durable_file.h"
#include "runtime/status.h"

namespace isthmus::sweep {
namespace {

constexpr int64_t kMostFiguresBytes = int64_t{1} << 26;
constexpr double kControlConfidence = 0.95;  // that of `isthmus decompose`

// Reads fields of an object, and keeps the name of the first that is missing or of another kind.
class FigureReader {
 public:
  double Number(const nlohmann::json& json, const std::string& name) {
    const nlohmann::json* found = Find(json, name);
    if (found != nullptr && found->is_number()) return found->get<double>();
    // A figure that could not be measured is null.
    if (found == nullptr || !found->is_null()) Lacks(name);
    return std::numeric_limits<double>::quiet_NaN();
  }
  int64_t Count(const nlohmann::json& json, const std::string& name) {
    const nlohmann::json* found = Find(json, name);
    if (found != nullptr && found->is_number_integer()) return found->get<int64_t>();
    Lacks(name);
    return 0;
  }
  const nlohmann::json& Part(const nlohmann::json& json, const std::string& name) {
    const nlohmann::json* found = Find(json, name);
    if (found != nullptr && found->is_structured()) return *found;
    Lacks(name);
    return none_;
  }
  Measured Interval95(const nlohmann::json& json, const std::string& name) {
    const nlohmann::json& part = Part(json, name);
    return {.value = Number(part, "value"), .interval = {Number(part, "low"), Number(part, "high")}};
  }
  void Lacks(const std::string& name) {
    if (lacks_.empty()) lacks_ = name;
  }
  const std::string& lacks() const { return lacks_; }

 private:
  static const nlohmann::json* Find(const nlohmann::json& json, const std::string& name) {
    return json.is_object() && json.contains(name) ? &json.at(name) : nullptr;
  }

  const nlohmann::json none_;
  std::string lacks_;
};

ControlGain ControlGainOf(const nlohmann::json& control, double isotropic, FigureReader& reader) {
  std::vector<double> squares;
  for (const nlohmann::json& cosine : reader.Part(control, "visible_cosines")) {
    const double gain = cosine.is_number() ? cosine.get<double>() / isotropic : std::nan("");
    squares.push_back(gain * gain);
  }
  ControlGain gain{.draws = static_cast<int64_t>(squares.size())};
  const auto mean = EstimateMean(squares, kControlConfidence);
  if (!mean.ok()) return gain;
  gain.gain.value = std::sqrt(mean->mean);
  const auto root = [](double low, double high) { return Interval{std::sqrt(std::max(low, 0.0)), std::sqrt(high)}; };
  gain.gain.interval = root(mean->student.low, mean->student.high);
  // A new value has the deviation of one beside that of the mean.
  const double far = (mean->student.high - mean->mean) * std::sqrt(static_cast<double>(gain.draws) + 1);
  gain.one = root(mean->mean - far, mean->mean + far);
  return gain;
}

void ReadBuckets(const nlohmann::json& bootstrap, DecompositionFigures& figures, FigureReader& reader) {
  for (const nlohmann::json& bucket : reader.Part(bootstrap, "target_buckets")) {
    DecompositionFigures::Bucket read{.most_frequent_percent = reader.Number(bucket, "most_frequent_percent"),
                                      .tokens = reader.Count(bucket, "tokens")};
    if (bucket.is_object() && bucket.contains("bucket") && bucket["bucket"].is_string()) {
      read.name = bucket["bucket"].get<std::string>();
    } else {
      reader.Lacks("bucket");
    }
    if (read.tokens > 0) read.alignment_gain = reader.Interval95(bucket, "alignment_gain");
    figures.buckets.push_back(std::move(read));
  }
}

}  // namespace

Measured GainOf(const std::optional<ControlGain>& control) { return control.has_value() ? control->gain : Measured(); }

int SideOf(const Measured& gain, const std::optional<ControlGain>& random_head) {
  Interval chance = {1, 1};
  if (random_head.has_value() && std::isfinite(random_head->one.low)) {
    chance = {std::min(1.0, random_head->one.low), std::max(1.0, random_head->one.high)};
  }
  return gain.interval.low > chance.high ? 1 : gain.interval.high < chance.low ? -1 : 0;
}

absl::StatusOr<DecompositionFigures> ReadDecomposition(const std::string& path) {
  ISTHMUS_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMostFiguresBytes));
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  FigureReader reader;
  DecompositionFigures figures{.tokens = reader.Count(json, "tokens"),
                               .vocabulary = reader.Count(json, "vocabulary"),
                               .width = reader.Count(json, "width"),
                               .rank = reader.Count(json, "head_numerical_rank"),
                               .loss = reader.Number(json, "loss")};
  const nlohmann::json& bootstrap = reader.Part(json, "bootstrap");
  figures.sequence_length = reader.Count(bootstrap, "block_tokens");
  figures.sequences = reader.Count(bootstrap, "blocks");
  figures.resamples = reader.Count(bootstrap, "resamples");
  figures.visible_cosine = reader.Interval95(bootstrap, "visible_cosine");
  figures.lost_norm_ratio = reader.Interval95(bootstrap, "lost_norm_ratio");
  figures.lost_energy_ratio = reader.Interval95(bootstrap, "lost_energy_ratio");
  figures.alignment_gain = reader.Interval95(bootstrap, "alignment_gain");
  ReadBuckets(bootstrap, figures, reader);
  if (figures.rank < 1 || figures.vocabulary < 1) reader.Lacks("a rank and a vocabulary above 0");
  figures.isotropic_visible_cosine =
      std::sqrt(static_cast<double>(figures.rank) / static_cast<double>(figures.vocabulary));
  if (json.is_object() && json.contains("controls")) {
    const nlohmann::json& controls = json["controls"];
    const double isotropic = figures.isotropic_visible_cosine;
    figures.random_head = ControlGainOf(reader.Part(controls, "random_head"), isotropic, reader);
    figures.random_hidden = ControlGainOf(reader.Part(controls, "random_hidden"), isotropic, reader);
  }
  if (reader.lacks().empty()) return figures;
  return absl::DataLossError(absl::StrCat(path, ": is no result of a decomposition: it lacks ", reader.lacks()));
}

}  // namespace isthmus::sweep
