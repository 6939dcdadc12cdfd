// The kinds of LM heads. Each is one file beside this one and one line in heads.cc.
#ifndef ISTHMUS_MODEL_HEADS_HEADS_H_
#define ISTHMUS_MODEL_HEADS_HEADS_H_

#include <absl/status/status.h>
#include <absl/strings/string_view.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "model/heads/lm_head.h"
#include "model/part_setting.h"
#include "proto/config.pb.h"

namespace isthmus {

// The material of a head.
struct HeadRequest {
  const proto::ModelConfig& config;
  const PartSetting& setting;
};

// The shape of a head's linear form, W = U or W = U E (HeadView), known before it is made.
struct HeadShape {
  int64_t width = 0;          // of what enters U: D, or the rows of E
  bool has_down = false;      // there is an E
  bool in_embedding = false;  // U is the table of token embeddings
};

struct HeadKind {
  std::string name;  // model.head.kind
  std::function<std::unique_ptr<LmHead>(const HeadRequest&)> make;
  // Null: U [V, D] of its own.
  std::function<HeadShape(const proto::ModelConfig&)> shape;
  // For people: "head of rank 64". Null: the kind's name and "head".
  std::function<std::string(const proto::ModelConfig&)> title;
  // Returns what is wrong with the configuration of such a head: the field, what was found, what is accepted. Empty:
  // nothing is. Null: nothing can be.
  std::function<std::string(const proto::ModelConfig&)> check;
};

// The kind that a configuration names. It must have passed CheckHead.
const HeadKind& HeadKindOf(const proto::ModelConfig& config);
HeadShape HeadShapeOf(const proto::ModelConfig& config);
// R of a head W = U E: model.head.rank, or the older model.head_rank. 0: none is set.
int64_t HeadRankOf(const proto::ModelConfig& config);
// The one of the two that sets it, for messages.
const char* HeadRankField(const proto::ModelConfig& config);
// Writes kind and rank in one way, whichever fields said them: configurations of the same head are then equal.
void NormaliseHead(proto::ModelConfig& config);
// For people; of a kind that this program does not have, its name.
std::string HeadTitle(const proto::ModelConfig& config);
// Null if there is none of that name.
const HeadKind* FindHead(const std::string& name);
// Errors: InvalidArgument "source: field: what was found; what is accepted".
absl::Status CheckHead(const proto::ModelConfig& config, absl::string_view source);
// Adds a kind, or replaces the one of its name. To be called before models are made, on one thread.
void RegisterHead(HeadKind kind);

}  // namespace isthmus

#endif  // ISTHMUS_MODEL_HEADS_HEADS_H_
