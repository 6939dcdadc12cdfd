// The program has these kinds of LM heads. Each is one file beside this one and one line in heads.cc.
#ifndef ISTHMUS_MODEL_HEADS_HEADS_H_
#define ISTHMUS_MODEL_HEADS_HEADS_H_

#include <absl/status/status.h>
#include <absl/strings/string_view.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "model/heads/lm_head.h"
#include "model/part_setting.h"
#include "ops/loss_form.h"
#include "proto/config.pb.h"
#include "runtime/data/token_tables.h"

namespace isthmus {

// A head is made from this.
struct HeadRequest {
  const proto::ModelConfig& config;
  const PartSetting& setting;
  // It need not outlive the head, which copies what it needs. It may be empty where nothing is computed: shapes do not
  // depend on it.
  const TokenTables& tables;
};

// This is the shape of a head's linear form, W = U or W = U E (HeadView), known before it is made.
struct HeadShape {
  int64_t width = 0;          // of what enters U: D, or the rows of E
  bool has_down = false;      // there is an E
  bool in_embedding = false;  // U is the table of token embeddings
};

struct HeadKind {
  std::string name;  // model.head.kind
  std::function<std::unique_ptr<LmHead>(const HeadRequest&)> make;
  // Whether its U, or the gradient of its U, is a parameter's: the hooks of model/heads/gradient work around such heads
  // only.
  bool plain_rows = false;
  // Whether it takes model.head.bias, and model.head.row_scale.
  bool takes_bias = false, takes_row_scale = false;
  // Whether it needs the clusters of model.head.clusters.
  bool has_clusters = false;
  // If it is null, the head has U [V, D] of its own.
  std::function<HeadShape(const proto::ModelConfig&)> shape;
  // The title is for people: "head of rank 64". If it is null, it is the kind's name and "head".
  std::function<std::string(const proto::ModelConfig&)> title;
  // Returns what is wrong with the configuration of such a head: the field, what was found, what is accepted. The text
  // is empty if nothing is wrong. If `check` is null, nothing can be wrong.
  std::function<std::string(const proto::ModelConfig&)> check;
};

// The kind of model.head.clusters that has the most frequent tokens in cluster 0.
inline constexpr char kClustersByFrequency[] = "frequency";

// Makes the head of a configuration, which must have passed CheckHead.
std::unique_ptr<LmHead> MakeHead(const HeadRequest& request);
// Returns the kind that a configuration names. It must have passed CheckHead.
const HeadKind& HeadKindOf(const proto::ModelConfig& config);
HeadShape HeadShapeOf(const proto::ModelConfig& config);
// Returns the form of the loss that any head trains by.
LossForm LossFormOf(const proto::ModelConfig& config);
// Returns whether the configured head needs clusters; false for a kind that this program does not have.
bool HeadHasClusters(const proto::ModelConfig& config);
// Returns whether the head trains by losses that do not compare from step to step.
bool HeadLossChanges(const proto::ModelConfig& config);
// Returns R of a head W = U E: model.head.rank, or the older model.head_rank. It is 0 if none is set.
int64_t HeadRankOf(const proto::ModelConfig& config);
// Returns the one of the two that sets it, for messages.
const char* HeadRankField(const proto::ModelConfig& config);
// Writes kind and rank in one way, whichever fields gave them: configurations of the same head are then equal.
void NormaliseHead(proto::ModelConfig& config);
// Returns the title for people. For a kind that this program does not have, it is the kind's name.
std::string HeadTitle(const proto::ModelConfig& config);
// Returns the names of all kinds, in the order of the list.
std::vector<std::string> HeadNames();
// Returns null if there is none of that name.
const HeadKind* FindHead(const std::string& name);
// Errors: InvalidArgument "source: field: what was found; what is accepted".
absl::Status CheckHead(const proto::ModelConfig& config, absl::string_view source);
// Adds a kind, or replaces the one of its name. It must be called before models are made, on one thread.
void RegisterHead(HeadKind kind);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_HEADS_H_
