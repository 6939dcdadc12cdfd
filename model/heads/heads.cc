#include "model/heads/heads.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <cmath>
#include <utility>

#include "model/future_schedule.h"
#include "model/heads/gradient/hooked_head.h"
#include "model/heads/head_rows.h"
#include "model/kind_list.h"

namespace isthmus {

HeadKind FullHeadKind();
HeadKind TiedHeadKind();
HeadKind FactorisedHeadKind();
HeadKind SampledHeadKind();
HeadKind ClusterHeadKind();
HeadKind HierarchicalHeadKind();
HeadKind WideHeadKind();
HeadKind MixtureHeadKind();
HeadKind CopyHeadKind();
HeadKind ContrastiveHeadKind();

namespace {

KindList<HeadKind>& Heads() {
  static KindList<HeadKind> list({
      FullHeadKind(),
      TiedHeadKind(),
      FactorisedHeadKind(),
      SampledHeadKind(),
      ClusterHeadKind(),
      HierarchicalHeadKind(),
      WideHeadKind(),
      MixtureHeadKind(),
      CopyHeadKind(),
      ContrastiveHeadKind(),
  });
  return list;
}

std::string NameOf(const proto::ModelConfig& config) {
  if (!config.head().kind().empty()) return config.head().kind();
  return HeadRankOf(config) != 0 ? "factorised" : config.tied_embeddings() ? "tied" : "full";
}

// Works as HeadKind::check.
std::string CheckLossForm(const proto::HeadConfig& config) {
  constexpr double kLeastCap = 1e-3, kMostCap = 1e6;  // fp32 has their squares and inverses
  if (const double cap = config.soft_cap(); cap != 0 && !(cap >= kLeastCap && cap <= kMostCap)) {
    return absl::StrCat("model.head.soft_cap: ", cap, "; accepts 0 (none) and ", kLeastCap, " to ", kMostCap);
  }
  if (const double weight = config.z_loss(); !(weight >= 0 && std::isfinite(weight))) {
    return absl::StrCat("model.head.z_loss: ", weight, "; accepts 0 (off) and finite numbers above");
  }
  return "";
}

// Returns what is wrong if a setting is set that only another kind of head has.
std::string CheckOthersSettings(const std::string& name, const proto::HeadConfig& head) {
  const auto only = [&](const char* kind) {
    return absl::StrCat("model.head.kind is ", name, ", and only a head of kind ", kind, " has ");
  };
  if (name != "sampled" && !head.sampled().empty()) {
    return absl::StrCat("model.head.sampled: has stages; ", only("sampled"), "them");
  }
  const proto::HeadConfig unset;
  if (name != "wide" && head.expansion() != unset.expansion()) {
    return absl::StrCat("model.head.expansion: ", head.expansion(), "; ", only("wide"), "it; leave it unset");
  }
  if (const int64_t count = head.mixture().count(); name != "mixture" && count != unset.mixture().count()) {
    return absl::StrCat("model.head.mixture.count: ", count, "; ", only("mixture"), "it; leave it unset");
  }
  if (const auto& contrastive = head.contrastive(); name != "contrastive") {
    const std::string refusal = absl::StrCat("; ", only("contrastive"), "it; leave it unset");
    if (contrastive.gather()) return absl::StrCat("model.head.contrastive.gather: true", refusal);
    if (!contrastive.duplicates()) return absl::StrCat("model.head.contrastive.duplicates: false", refusal);
    if (const int64_t from = contrastive.vocabulary_from_step(); from != 0) {
      return absl::StrCat("model.head.contrastive.vocabulary_from_step: ", from, refusal);
    }
  }
  if (name != "copy" && head.copy_width() != unset.copy_width()) {
    return absl::StrCat("model.head.copy_width: ", head.copy_width(), "; ", only("copy"), "it; leave it unset");
  }
  return "";
}

}  // namespace

std::unique_ptr<LmHead> MakeHead(const HeadRequest& request) {
  return WithHooks(request, HeadKindOf(request.config).make(request));
}

const HeadKind& HeadKindOf(const proto::ModelConfig& config) { return *FindHead(NameOf(config)); }

std::vector<std::string> HeadNames() { return Heads().Names(); }

const HeadKind* FindHead(const std::string& name) { return Heads().Find(name); }

bool HeadLossChanges(const proto::ModelConfig& config) {
  return config.head().sampled_size() > 1 || config.head().contrastive().vocabulary_from_step() > 1;
}

int64_t HeadRankOf(const proto::ModelConfig& config) {
  return config.head().rank() != 0 ? config.head().rank() : config.head_rank();
}

const char* HeadRankField(const proto::ModelConfig& config) {
  return config.head_rank() != 0 && config.head().rank() == 0 ? "model.head_rank" : "model.head.rank";
}

void NormaliseHead(proto::ModelConfig& config) {
  config.mutable_head()->set_kind(NameOf(config));
  config.mutable_head()->set_rank(HeadRankOf(config));
  config.clear_head_rank();
}

HeadShape HeadShapeOf(const proto::ModelConfig& config) {
  const HeadKind& kind = HeadKindOf(config);
  return kind.shape ? kind.shape(config) : HeadShape{.width = config.width()};
}

LossForm LossFormOf(const proto::ModelConfig& config) {
  return {.soft_cap = config.head().soft_cap(), .z_loss = config.head().z_loss()};
}

bool HeadHasClusters(const proto::ModelConfig& config) {
  const HeadKind* kind = FindHead(NameOf(config));
  return kind != nullptr && kind->has_clusters;
}

std::string HeadTitle(const proto::ModelConfig& config) {
  const HeadKind* kind = FindHead(NameOf(config));
  return kind != nullptr && kind->title ? kind->title(config) : NameOf(config) + " head";
}

absl::Status CheckHead(const proto::ModelConfig& config, absl::string_view source) {
  const std::string name = NameOf(config);
  const HeadKind* kind = FindHead(name);
  if (kind == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": model.head.kind: found \"", name, "\"; accepts ",
                                                   absl::StrJoin(Heads().Names(), ", ")));
  }
  const int64_t rank = config.head().rank(), older = config.head_rank();
  if (rank != 0 && older != 0 && rank != older) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": model.head_rank: ", older, "; model.head.rank is ", rank,
                                                   ", and both name the head's rank; set one of them"));
  }
  std::string wrong = CheckOthersSettings(name, config.head());
  if (wrong.empty() && kind->check) wrong = kind->check(config);
  if (wrong.empty()) wrong = CheckHooks(config, *kind);
  if (wrong.empty()) wrong = CheckLossForm(config.head());
  if (wrong.empty()) wrong = CheckFuture(config.head());
  if (wrong.empty()) wrong = CheckHeadRows(config, *kind);
  return wrong.empty() ? absl::OkStatus() : absl::InvalidArgumentError(absl::StrCat(source, ": ", wrong));
}

void RegisterHead(HeadKind kind) { Heads().Add(std::move(kind)); }

}  // namespace isthmus
