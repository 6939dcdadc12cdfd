// A report shows this of one run: its configuration, and its metrics thinned to as many points as a plot can show.
#ifndef ISTHMUS_LAUNCH_REPORT_RUN_H_
#define ISTHMUS_LAUNCH_REPORT_RUN_H_

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "launch/report/series.h"
#include "proto/config.pb.h"

namespace isthmus::report {

// A part of the vocabulary is a tensor rank's shard, or a bucket of tokens about equally frequent.
struct Part {
  std::string name;  // "shard 0", "most frequent 0.1 %"
  // Shares of the energy of the logits' gradient, and of the part of it that the head passes on; of all parts 1.
  Series energy_share, retained_energy_share;
};

// A profile has values by index, for example singular values by their place from 1, or norms by layer.
using Profile = std::vector<std::pair<double, double>>;

struct Counts {
  std::vector<double> bounds;  // ascending upper bounds
  std::vector<double> counts;  // one more than bounds: the last has no upper bound
};

struct Run {
  std::string folder;  // as given
  std::string name;    // short, no other run of the report has it
  std::optional<proto::RunConfig> config;
  // Facts in words; empty: not recorded.
  std::string version, commit, device, processor;
  std::string data;                     // digest of the training data
  std::map<std::string, double> facts;  // run/* of metrics.jsonl without the prefix, numbers only

  // By key: "train/loss", "updates/head/first_order_decrease".
  std::map<std::string, Series> figures;
  std::vector<Part> shards, buckets;
  // Profiles of the last record that has them, by key.
  std::map<std::string, Profile> spectra;
  std::map<std::string, double> spectrum_steps;  // of those records
  std::map<std::string, Counts> histograms;
  // By layer, of the last record that has layers: the norm of the gradient and the mean cosines of two tokens.
  Profile layer_gradient_norms, layer_anisotropies, layer_centred_anisotropies;

  int64_t records = 0;
  // Figures of the last record: NaN if there is none.
  double step = std::numeric_limits<double>::quiet_NaN();
  double tokens = std::numeric_limits<double>::quiet_NaN();
  double seconds = std::numeric_limits<double>::quiet_NaN();
  double timestamp = std::numeric_limits<double>::quiet_NaN();  // since 1970
  bool finished = false;                                        // the last step was taken, or its time is over
  std::vector<std::string> notes;                               // what a reader should know of the files

  // Returns the figure's series; an empty one if no record has it.
  const Series& Figure(const std::string& key) const;
  double Fact(const std::string& key) const;  // NaN where there is none
};

// Reads metrics.jsonl and config.textproto of a run folder, also while the run still writes. A last line that is not
// whole is left out with a note. Reads one line at a time. Errors: NotFound for a folder or a metrics.jsonl that does
// not exist; InvalidArgument "file:line: …" for a line that is no JSON object.
//
// A long list such as `layers` gives no figures by itself. `keys` may name some of an element's, by its label and the
// field: "layers/2/hidden_anisotropy". Keys of other figures change nothing.
absl::StatusOr<Run> ReadRun(const std::string& folder, absl::Span<const std::string> keys = {});

// Names runs by the last part of their folders, or by whole folders if those parts are not all different. Errors:
// InvalidArgument when a folder is given twice.
absl::Status NameRuns(absl::Span<Run> runs);

}  // namespace isthmus::report

#endif  // ISTHMUS_LAUNCH_REPORT_RUN_H_
