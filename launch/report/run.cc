#include "launch/report/run.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_replace.h>
#include <absl/strings/strip.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "launch/report/line_reader.h"
#include "runtime/config.h"
#include "runtime/status.h"

namespace isthmus::report {
namespace {

using Json = nlohmann::json;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
// These are more than any run has: memory stays bounded whatever a file holds.
constexpr size_t kMostFigures = 128, kMostParts = 128, kMostSpectra = 16;

double NumberOf(const Json& record, const char* key) {
  const auto found = record.find(key);
  return found != record.end() && found->is_number() ? found->get<double>() : kNaN;
}

std::string TextOf(const Json& record, const char* key) {
  const auto found = record.find(key);
  return found != record.end() && found->is_string() ? found->get<std::string>() : "";
}

// Returns the name of a part of the vocabulary, as records and `isthmus decompose` give it.
std::string PartName(const Json& part, size_t index) {
  if (const double rank = NumberOf(part, "tp_rank"); !std::isnan(rank)) return absl::StrCat("shard ", rank);
  if (const double share = NumberOf(part, "most_frequent_percent"); !std::isnan(share)) {
    return absl::StrCat("most frequent ", share, " %");
  }
  const auto bucket = part.find("bucket");
  if (bucket != part.end() && bucket->is_string()) {
    return absl::StrReplaceAll(bucket->get<std::string>(), {{"_percent", " %"}, {"_", " "}});
  }
  if (bucket != part.end() && bucket->is_number()) return absl::StrCat("bucket ", bucket->get<double>());
  return absl::StrCat("part ", index);
}

// Returns the energy as records of any version have it, or `isthmus decompose`; NaN if there is neither.
double PartEnergy(const Json& part, const char* norm_key, const char* energy_key) {
  const double norm = NumberOf(part, norm_key);
  return std::isnan(norm) ? NumberOf(part, energy_key) : norm * norm;
}
double EnergyOf(const Json& part) { return PartEnergy(part, "logit_gradient_norm", "logit_gradient_energy"); }
double RetainedEnergyOf(const Json& part) { return PartEnergy(part, "retained_gradient_norm", "retained_energy"); }

// Reads [{"index": 1, "value": 9}, ...], or values alone, with index from 1. The result is empty if it is neither.
Profile ProfileOf(const Json& list, const char* index, const char* value) {
  Profile profile;
  for (const Json& element : list) {
    const double at = element.is_object() ? NumberOf(element, index) : static_cast<double>(profile.size() + 1);
    const double size = element.is_object()   ? NumberOf(element, value)
                        : element.is_number() ? element.get<double>()
                                              : kNaN;
    if (std::isnan(at) || (!profile.empty() && at <= profile.back().first)) return {};
    profile.emplace_back(at, size);
  }
  return profile;
}

std::vector<double> NumbersOf(const Json& list) {
  std::vector<double> numbers;
  numbers.reserve(list.size());
  for (const Json& element : list) numbers.push_back(element.is_number() ? element.get<double>() : kNaN);
  return numbers;
}

// Returns true for figures found from the head's singular values, at times of an earlier step than the record's
// (head/singular_values_step).
bool IsOfSingularValues(absl::string_view key) {
  static constexpr absl::string_view kKeys[] = {"condition", "singular_entropy", "stable_rank",
                                                "largest_singular_share"};
  if (!absl::ConsumePrefix(&key, "head/")) return false;
  return absl::StartsWith(key, "error_ratio_at_") ||
         std::find(std::begin(kKeys), std::end(kKeys), key) != std::end(kKeys);
}

// Returns the field that tells the elements of a list apart, if each element has figures of its own; else null.
const char* LabelOfList(absl::string_view key) {
  if (key == "updates") return "part";
  return key == "groups" ? "group" : nullptr;
}

// Returns true for histograms over tokens of the vocabulary or of the step.
bool IsOverTokens(absl::string_view key) {
  return absl::StartsWith(key, "head/") || absl::StartsWith(key, "token_gaps/");
}

// Takes the records of a run in their order. The run went back if step and tokens both do.
class RecordReader {
 public:
  // `keys` are as in ReadRun.
  RecordReader(Run& run, absl::Span<const std::string> keys) : run_(run), keys_(keys.begin(), keys.end()) {}

  // `line` is its number in the file.
  void Add(Json record, int64_t line) {
    ++run_.records;
    AddFacts(record);
    const Place place = {NumberOf(record, "step"), NumberOf(record, "tokens"), line};
    if (!IsPlottable(place.tokens) || place.tokens < 0) return;
    const std::optional<Doubted> doubted = std::exchange(doubted_, std::nullopt);
    if (place.tokens <= run_.tokens) {
      if (place.step > furthest_step_) {
        if (!doubted.has_value() || !Agree(doubted->place, place)) {
          if (doubted.has_value()) LeaveOut(doubted->place.line);
          doubted_ = {.place = place, .record = std::move(record)};
          return;
        }
        PreferTo(doubted->place);
        Accept(doubted->record, doubted->place);
        return Accept(record, place);
      }
      GoBackTo(place.tokens);
      ++resumes_;
      furthest_step_ = place.step;
    }
    if (doubted.has_value()) LeaveOut(doubted->place.line);
    Accept(record, place);
  }

  void Finish() {
    if (doubted_.has_value()) LeaveOut(doubted_->place.line);
    if (run_.config.has_value()) {
      const auto& schedule = run_.config->schedule();
      const bool out_of_time = schedule.max_seconds() > 0 && run_.seconds >= schedule.max_seconds();
      run_.finished = out_of_time || run_.step >= static_cast<double>(schedule.steps());
    }
    if (resumes_ > 0) {
      run_.notes.push_back(absl::StrCat("the run went back to an earlier step ", resumes_,
                                        resumes_ == 1 ? " time" : " times", ": what it repeated is shown once"));
    }
    TellOfLeftOut();
    const int64_t not_finite = run_.Figure("train/loss").not_finite();
    if (not_finite > 0) {
      run_.notes.push_back(absl::StrCat("the loss of ", not_finite, not_finite == 1 ? " record" : " records",
                                        " is not a finite number: left out"));
    }
  }

 private:
  struct Place {
    double step = kNaN, tokens = kNaN;
    int64_t line = 0;
  };
  // This is a record whose step goes on and whose tokens go back. A digit may be damaged, here or in the record before.
  struct Doubted {
    Place place;
    Json record;
  };

  // Returns true if both records have as many tokens per step, so that neither is damaged.
  static bool Agree(const Place& first, const Place& second) {
    constexpr double kTolerance = 0.01;
    const double ratio = (first.tokens * second.step) / (second.tokens * first.step);
    return second.step > first.step && second.tokens > first.tokens && std::abs(ratio - 1) <= kTolerance;
  }

  // Takes back the records that do not fit two that agree; `doubted` is the first of those two.
  void PreferTo(const Place& doubted) {
    GoBackTo(doubted.tokens);
    if (last_.tokens >= doubted.tokens && !(before_last_.tokens >= doubted.tokens)) {
      LeaveOut(last_.line);
    } else {
      ++resumes_;  // tokens are counted anew
    }
    last_ = before_last_;
    furthest_step_ = doubted.step;
  }

  void LeaveOut(int64_t line) { left_out_.push_back(line); }

  void TellOfLeftOut() {
    constexpr size_t kMostNamed = 8;
    if (left_out_.empty()) return;
    const size_t named = std::min(left_out_.size(), kMostNamed);
    std::string lines;
    for (size_t i = 0; i < named; ++i) absl::StrAppend(&lines, i > 0 ? ", " : "", left_out_[i]);
    if (named < left_out_.size()) absl::StrAppend(&lines, " and ", left_out_.size() - named, " more");
    run_.notes.push_back(absl::StrCat("the tokens of ", left_out_.size() == 1 ? "line " : "lines ", lines,
                                      " of metrics.jsonl do not fit the step (damaged?): left out"));
  }

  void Accept(const Json& record, const Place& place) {
    const double tokens = place.tokens;
    before_last_ = std::exchange(last_, place);
    if (!(place.step <= furthest_step_)) furthest_step_ = place.step;
    const double seconds = SecondsOf(record);
    run_.tokens = tokens;
    run_.step = place.step;
    run_.timestamp = NumberOf(record, "timestamp_seconds");
    if (IsPlottable(seconds)) run_.seconds = seconds;
    clock_.Add(tokens, seconds, seconds);
    const double found = NumberOf(record, "head/singular_values_step");
    const double found_tokens = found >= 0 && found < run_.step ? tokens * found / run_.step : tokens;
    for (const auto& [key, value] : record.items()) {
      if (!IsOfSingularValues(key)) {
        AddFigure(key, value, tokens, seconds);
      } else if (const auto& known = run_.Figure(key).points();
                 known.empty() || known.back().last_tokens < found_tokens) {
        AddFigure(key, value, found_tokens, seconds);  // once, however often it is repeated
      }
    }
  }

  void AddFacts(const Json& record) {
    for (const auto& [key, value] : record.items()) {
      absl::string_view name = key;
      if (!value.is_number() || !absl::ConsumePrefix(&name, "run/")) continue;
      if (run_.facts.size() < kMostFigures) run_.facts[std::string(name)] = value.get<double>();
    }
    const std::pair<const char*, std::string*> texts[] = {{"run/version", &run_.version},
                                                          {"run/commit", &run_.commit},
                                                          {"run/device", &run_.device},
                                                          {"run/processor", &run_.processor},
                                                          {"run/data", &run_.data}};
    for (const auto& [key, fact] : texts) {
      if (const std::string text = TextOf(record, key); !text.empty()) *fact = text;
    }
  }

  void GoBackTo(double tokens) {
    clock_.CutFrom(tokens);
    for (auto& [key, series] : run_.figures) series.CutFrom(tokens);
    for (auto* parts : {&run_.shards, &run_.buckets}) {
      for (Part& part : *parts) {
        part.energy_share.CutFrom(tokens);
        part.retained_energy_share.CutFrom(tokens);
      }
    }
  }

  // Time goes on where a resumed run counts anew.
  double SecondsOf(const Json& record) {
    const double seconds = NumberOf(record, "elapsed_seconds");
    const double before = clock_.Last();
    if (seconds + seconds_before_ < before) seconds_before_ = before - seconds;
    return seconds + seconds_before_;
  }

  void AddFigure(const std::string& key, const Json& value, double tokens, double seconds) {
    static constexpr absl::string_view kNotFigures[] = {"run/", "rank/", "sinks/", "checkpoint/"};
    for (const absl::string_view prefix : kNotFigures) {
      if (absl::StartsWith(key, prefix)) return;
    }
    if (key == "layers" && value.is_array()) return AddLayers(value, tokens, seconds);
    const bool head = absl::StartsWith(key, "head/");
    if (const char* label = LabelOfList(key); label != nullptr) return AddList(key, label, value, tokens, seconds);
    if (!absl::StrContains(key, '/')) return;
    if (value.is_number() || value.is_null()) {  // JSON writes null for what is not finite
      if (run_.figures.size() == kMostFigures && !run_.figures.contains(key)) return;
      run_.figures[key].Add(tokens, seconds, value.is_number() ? value.get<double>() : kNaN);
    } else if (key == "head/shards") {
      AddParts(value, tokens, seconds, run_.shards);
    } else if (key == "head/buckets") {
      AddParts(value, tokens, seconds, run_.buckets);
    } else if (head && value.is_array()) {
      Profile profile = ProfileOf(value, "index", "value");
      const bool room = run_.spectra.size() < kMostSpectra || run_.spectra.contains(key);
      if (!room || profile.size() < 2) return;
      run_.spectra[key] = std::move(profile);
      run_.spectrum_steps[key] = run_.step;
    } else if (IsOverTokens(key) && value.is_object() && value.contains("bounds") && value.contains("counts")) {
      const Counts counts{.bounds = NumbersOf(value["bounds"]), .counts = NumbersOf(value["counts"])};
      const bool room = run_.histograms.size() < kMostSpectra || run_.histograms.contains(key);
      if (room && !counts.bounds.empty() && counts.counts.size() == counts.bounds.size() + 1) {
        run_.histograms[key] = counts;
      }
    }
  }

  void AddLayers(const Json& list, double tokens, double seconds) {
    run_.layer_gradient_norms = ProfileOf(list, "layer", "gradient_norm");
    run_.layer_anisotropies = ProfileOf(list, "layer", "hidden_anisotropy");
    run_.layer_centred_anisotropies = ProfileOf(list, "layer", "hidden_centred_anisotropy");
    for (const Json& element : list) {
      const double layer = element.is_object() ? NumberOf(element, "layer") : kNaN;
      if (std::isnan(layer)) continue;
      for (const auto& [field, value] : element.items()) {
        const std::string key = absl::StrCat("layers/", layer, "/", field);
        if (keys_.contains(key)) AddFigure(key, value, tokens, seconds);
      }
    }
  }

  // Adds the figures of a list's elements under the names that TensorBoard has: "updates/head/first_order_decrease".
  void AddList(const std::string& key, const char* label, const Json& list, double tokens, double seconds) {
    if (!list.is_array()) return;
    for (const Json& element : list) {
      if (!element.is_object()) continue;
      const std::string name = TextOf(element, label);
      if (name.empty()) continue;
      for (const char* field : {"first_order_decrease", "learning_rate"}) {
        if (!element.contains(field)) continue;
        AddFigure(absl::StrCat(key, "/", name, "/", field), element[field], tokens, seconds);
      }
    }
  }

  static void AddParts(const Json& list, double tokens, double seconds, std::vector<Part>& parts) {
    if (!list.is_array()) return;
    double energy = 0, retained = 0;
    for (const Json& part : list) {
      if (!part.is_object()) continue;
      energy += EnergyOf(part);
      retained += RetainedEnergyOf(part);
    }
    for (size_t i = 0; i < list.size(); ++i) {
      if (!list[i].is_object()) continue;
      const std::string name = PartName(list[i], i);
      auto part = std::find_if(parts.begin(), parts.end(), [&](const Part& known) { return known.name == name; });
      if (part == parts.end()) {
        if (parts.size() == kMostParts) return;
        part = parts.insert(parts.end(), {.name = name, .energy_share = {}, .retained_energy_share = {}});
      }
      part->energy_share.Add(tokens, seconds, energy > 0 ? EnergyOf(list[i]) / energy : kNaN);
      part->retained_energy_share.Add(tokens, seconds, retained > 0 ? RetainedEnergyOf(list[i]) / retained : kNaN);
    }
  }

  Run& run_;
  const std::set<std::string> keys_;
  Series clock_;  // seconds by tokens
  double seconds_before_ = 0;
  int64_t resumes_ = 0;
  Place last_, before_last_;     // of the records that were taken
  double furthest_step_ = kNaN;  // since the run last went back
  std::optional<Doubted> doubted_;
  std::vector<int64_t> left_out_;  // lines
};

absl::Status ReadMetrics(const std::string& path, absl::Span<const std::string> keys, Run& run) {
  std::error_code error;
  if (std::filesystem::exists(path, error) && !std::filesystem::is_regular_file(path, error)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": is not a file"));
  }
  ISTHMUS_ASSIGN_OR_RETURN(LineReader lines, LineReader::Open(path));
  RecordReader records(run, keys);
  while (true) {
    ISTHMUS_ASSIGN_OR_RETURN(const bool more, lines.Next());
    if (!more) break;
    Json record = Json::parse(lines.line(), nullptr, /*allow_exceptions=*/false);
    if (record.is_object()) {
      records.Add(std::move(record), lines.number());
    } else if (!lines.ended()) {
      run.notes.push_back(absl::StrCat("line ", lines.number(),
                                       " of metrics.jsonl is not whole (the run may be writing it): left out"));
    } else {
      return absl::InvalidArgumentError(absl::StrCat(path, ":", lines.number(), ": is not a JSON object"));
    }
  }
  records.Finish();
  if (run.records == 0) run.notes.push_back("metrics.jsonl has no record yet");
  return absl::OkStatus();
}

}  // namespace

const Series& Run::Figure(const std::string& key) const {
  static const Series* const empty = new Series;
  const auto found = figures.find(key);
  return found == figures.end() ? *empty : found->second;
}

double Run::Fact(const std::string& key) const {
  const auto found = facts.find(key);
  return found == facts.end() ? kNaN : found->second;
}

absl::StatusOr<Run> ReadRun(const std::string& folder, absl::Span<const std::string> keys) {
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) {
    return absl::NotFoundError(absl::StrCat(folder,
                                            ": there is no such folder; accepts run folders, which hold "
                                            "metrics.jsonl"));
  }
  Run run;
  run.folder = folder;
  if (auto config = LoadRunConfig(folder); config.ok()) {
    run.config = *std::move(config);
  } else {
    // Another version may have written it: what there is of the run can be shown all the same.
    run.notes.push_back(absl::StrCat("its configuration is not shown: ", config.status().message()));
  }
  ISTHMUS_RETURN_IF_ERROR(ReadMetrics(folder + "/metrics.jsonl", keys, run));
  return run;
}

absl::Status NameRuns(absl::Span<Run> runs) {
  std::set<std::filesystem::path> folders;
  std::set<std::string> names;
  for (Run& run : runs) {
    std::error_code error;
    std::filesystem::path folder = std::filesystem::weakly_canonical(run.folder, error);
    if (error) folder = run.folder;
    run.name = folder.filename().string();
    names.insert(run.name);
    if (!folders.insert(folder).second) {
      return absl::InvalidArgumentError(absl::StrCat(run.folder, ": is given twice"));
    }
  }
  if (names.size() == runs.size()) return absl::OkStatus();
  for (Run& run : runs) run.name = run.folder;
  return absl::OkStatus();
}

}  // namespace isthmus::report
