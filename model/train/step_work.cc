#include "model/train/step_work.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <utility>

#include "model/heads/heads.h"
#include "model/measure/measurement_memory.h"
#include "model/model.h"
#include "model/model_shape.h"
#include "model/parameters.h"
#include "ops/cross_entropy.h"
#include "parallel/gradient_reducer.h"
#include "runtime/dtype.h"

namespace isthmus {
namespace {

class Inventory {
 public:
  Inventory(const proto::RunConfig& config, int tensor_rank, Device device)
      : config_(config),
        shape_(ModelShape::From(config.model())),
        head_(HeadShapeOf(config.model())),
        ranks_(config.mesh().tensor()),
        rank_(tensor_rank),
        vocabulary_(Share(shape_.vocabulary)),
        type_(ComputeType(config.precision())),
        table_(ParametersOf(config, {tensor_rank, config.mesh().tensor(), config.mesh().data()})),
        device_(device),
        sequence_parallel_(config.mesh().sequence_parallel() && ranks_ > 1),
        tokens_(config.batch().micro_batch() * config.data().sequence_length()),
        local_(sequence_parallel_ ? tokens_ / ranks_ : tokens_),
        query_(Share(shape_.heads) * shape_.head_dim),
        kv_(Share(shape_.kv_heads) * shape_.head_dim),
        features_(Share(shape_.feed_forward)) {
    work_.micro_batches = config.batch().sequences() / (config.batch().micro_batch() * config.mesh().data());
  }

  StepWork Take() {
    Forward();
    Head();
    Backward();
    Reduce();
    Optimizer();
    if (config_.telemetry().interval() > 0) Telemetry();
    return std::move(work_);
  }

 private:
  using Kind = OperatorWork::Kind;
  using Collective = CollectiveWork::Kind;
  using Group = CollectiveWork::Group;

  int64_t Share(int64_t count) const { return ShardOf(count, ranks_, rank_).size(); }
  double Size(double elements) const { return elements * static_cast<double>(SizeOf(type_)); }
  double SumSize(double elements) const { return elements * static_cast<double>(SizeOf(AccumulationType(type_))); }
  int64_t PerLayer() const { return work_.micro_batches * shape_.layers; }

  // c [m, n] = a [m, k] b [k, n] in the compute type; c of a weight's gradient is read and written in the accumulation
  // type, logits are written in it.
  enum class Result { kCompute, kAccumulated, kLogits };
  int Product(std::string name, int64_t calls, int64_t m, int64_t n, int64_t k, Result result = Result::kCompute) {
    const auto mn = static_cast<double>(m) * static_cast<double>(n);
    const double written = result == Result::kCompute ? Size(mn) : SumSize(result == Result::kLogits ? mn : 2 * mn);
    const double read = Size(static_cast<double>(k) * static_cast<double>(m + n));
    return Add(std::move(name), Kind::kProduct, calls, 2 * mn * static_cast<double>(k), read + written);
  }
  // A product of a linear layer (model/linear.h). With 8-bit operands they are quantised first: `quantised` elements,
  // read twice, written once, those of `both` once more as their transpose; two kernels for each of `operands`.
  int LayerProduct(const std::string& name, int64_t calls, int64_t m, int64_t n, int64_t k, int operands,
                   int64_t quantised, int64_t both = 0, Result result = Result::kCompute) {
    const int index = Product(name, calls, m, n, k, result);
    if (!config_.precision().fp8_layers()) return index;
    OperatorWork& product = work_.operators.back();
    product.kind = Kind::kFp8Product;
    product.bytes -= static_cast<double>(k * (m + n)) * static_cast<double>(SizeOf(type_) - 1);
    Memory(name + ", quantising", calls,
           Size(2.0 * static_cast<double>(quantised)) + static_cast<double>(quantised + both), 2 * operands);
    return index;
  }
  int LayerForwardProduct(const std::string& name, int64_t calls, int64_t columns, int64_t inputs) {
    return LayerProduct(name, calls, tokens_, columns, inputs, 2, (tokens_ + columns) * inputs);
  }
  int LayerInputGradient(const std::string& name, int64_t calls, int64_t columns, int64_t inputs) {
    return LayerProduct(name + ", input gradient", calls, tokens_, inputs, columns, 2, (tokens_ + inputs) * columns,
                        tokens_ * columns);
  }
  // The output's gradient has been quantised for the input's.
  int LayerWeightGradient(const std::string& name, int64_t calls, int64_t columns, int64_t inputs) {
    return LayerProduct(name + ", weight gradient", calls, columns, inputs, tokens_, 1, tokens_ * inputs, 0,
                        Result::kAccumulated);
  }
  // A pass over memory.
  int Memory(std::string name, int64_t calls, double bytes, int kernels = 1) {
    return Add(std::move(name), Kind::kMemory, calls, 0, bytes, kernels);
  }
  int Add(std::string name, Kind kind, int64_t calls, double flops, double bytes, int kernels = 1) {
    work_.operators.push_back({phase_, std::move(name), kind, calls, flops, bytes, kernels});
    return static_cast<int>(work_.operators.size()) - 1;
  }
  void Send(std::string name, Collective kind, Group group, int64_t calls, double bytes, int beside = -1) {
    const int ranks = group == Group::kTensor ? ranks_ : config_.mesh().data();
    if (ranks == 1 || calls == 0) return;
    work_.collectives.push_back({phase_, std::move(name), kind, group, calls, static_cast<int64_t>(bytes), beside, -1});
  }

  // Borders of the tensor-parallel region (model/tensor_region.h).
  double StreamBytes() const { return Size(static_cast<double>(tokens_ * shape_.width)); }
  void Enter(const std::string& name, int64_t calls) {
    if (sequence_parallel_) Send(name, Collective::kAllGather, Group::kTensor, calls, StreamBytes());
  }
  void Leave(const std::string& name, int64_t calls, int beside = -1) {
    Send(name, sequence_parallel_ ? Collective::kReduceScatter : Collective::kAllReduce, Group::kTensor, calls,
         StreamBytes(), beside);
  }

  double Local(double passes) const { return Size(passes * static_cast<double>(local_ * shape_.width)); }
  double Gates(double passes) const { return Size(passes * static_cast<double>(tokens_ * features_)); }
  // Causal: half of T×T for each of the two products of the forward pass.
  double AttentionFlops() const {
    return 2.0 * static_cast<double>(tokens_) * static_cast<double>(config_.data().sequence_length() * query_);
  }
  double QkvBytes(double passes) const { return Size(passes * static_cast<double>(tokens_ * (query_ + 2 * kv_))); }
  void Rope(const std::string& name, int64_t calls) {
    Memory(name, calls, Size(2.0 * static_cast<double>(tokens_ * (query_ + kv_))), 2);
  }

  // The part of a layer's forward pass that recomputation repeats; the rest of the feed-forward block follows only in
  // the forward pass.
  void LayerForward(int64_t calls, bool whole) {
    Memory("attention norm", calls, Local(4));
    Enter("attention entrance", calls);
    LayerForwardProduct("query, key, value", calls, query_ + 2 * kv_, shape_.width);
    Rope("rotary positions", calls);
    Add("attention", Kind::kAttentionForward, calls, AttentionFlops(),
        QkvBytes(1) + Size(static_cast<double>(tokens_ * query_)));
    LayerForwardProduct("attention output", calls, shape_.width, query_);
    Leave("attention exit", calls);
    Memory("feed-forward norm", calls, Local(4));
    Enter("feed-forward entrance", calls);
    LayerForwardProduct("gate and up", calls, 2 * features_, shape_.width);
    if (!whole) return;
    Memory("SwiGLU", calls, Gates(3));
    LayerForwardProduct("down", calls, shape_.width, features_);
    Leave("feed-forward exit", calls);
  }

  void Forward() {
    phase_ = StepPhase::kForward;
    Memory("embedding", work_.micro_batches, Size(2.0 * static_cast<double>(tokens_ * shape_.width)));
    Leave("embedding exit", work_.micro_batches);
    LayerForward(PerLayer(), true);
    Memory("final norm", work_.micro_batches, Local(4));
    Enter("head entrance", work_.micro_batches);
  }

  void Head() {
    phase_ = StepPhase::kHead;
    const int64_t width = head_.width, rows = vocabulary_, rank = head_.has_down ? head_.width : 0;
    const int64_t chunk = std::min(config_.precision().loss_chunk(), tokens_);
    const int64_t chunks = work_.micro_batches * ((tokens_ + chunk - 1) / chunk);
    const auto logits = static_cast<double>(chunk * rows);
    if (rank > 0) Product("head down", work_.micro_batches, tokens_, rank, shape_.width);
    Product("logits", chunks, chunk, rows, width, Result::kLogits);
    Memory("loss statistics", chunks, SumSize(logits), 3);
    Send("loss statistics", Collective::kAllGather, Group::kTensor, chunks,
         SumSize(static_cast<double>(chunk * ranks_ * kCrossEntropyStatistics)));
    Memory("logit gradient", chunks, SumSize(logits) + Size(logits));
    Product("logits, input gradient", chunks, chunk, width, rows, Result::kLogits);
    if (type_ != AccumulationType(type_)) {
      const auto input = static_cast<double>(chunk * width);
      Memory("logits, input gradient", chunks, SumSize(input) + Size(input));
    }
    Product("logits, weight gradient", chunks, rows, width, chunk, Result::kAccumulated);
    if (rank == 0) {
      Leave("head exit", work_.micro_batches);
      return;
    }
    Send("head exit", Collective::kAllReduce, Group::kTensor, work_.micro_batches,
         Size(static_cast<double>(tokens_ * rank)));
    Product("head down, weight gradient", work_.micro_batches, rank, shape_.width, tokens_, Result::kAccumulated);
    Product("head down, input gradient", work_.micro_batches, tokens_, shape_.width, rank);
  }

  // NormedLinear::Backward: [N, columns] back through the projection and the norm; the input gradient travels beside
  // the weight gradient's product.
  void NormedLinearBackward(const std::string& name, int64_t columns) {
    const int64_t calls = PerLayer();
    Memory(name + ", norm again", calls, Local(2));
    Enter(name + ", entrance again", calls);
    LayerInputGradient(name, calls, columns, shape_.width);
    const int weight = LayerWeightGradient(name, calls, columns, shape_.width);
    Leave(name + ", backward", calls, weight);
    Memory(name + ", norm backward", calls, Local(4), 2);
  }

  void Backward() {
    phase_ = StepPhase::kBackward;
    const int64_t calls = PerLayer();
    Memory("final norm backward", work_.micro_batches, Local(3), 2);
    if (config_.precision().recompute()) LayerForward(calls, false);
    Enter("feed-forward exit, backward", calls);
    LayerInputGradient("down", calls, shape_.width, features_);
    Memory("SwiGLU backward", calls, Gates(6));
    LayerWeightGradient("down", calls, shape_.width, features_);
    NormedLinearBackward("gate and up", 2 * features_);
    Enter("attention exit, backward", calls);
    LayerInputGradient("attention output", calls, shape_.width, query_);
    LayerWeightGradient("attention output", calls, shape_.width, query_);
    // Five products of the same size instead of two (arXiv:2205.14135).
    Add("attention backward", Kind::kAttentionBackward, calls, 2.5 * AttentionFlops(),
        QkvBytes(2) + Size(2.0 * static_cast<double>(tokens_ * query_)), 3);
    Rope("rotary positions backward", calls);
    NormedLinearBackward("query, key, value", query_ + 2 * kv_);
    Enter("embedding exit, backward", work_.micro_batches);
    const auto embedded = static_cast<double>(tokens_ * shape_.width);
    Memory("embedding backward", work_.micro_batches, Size(embedded) + SumSize(2 * embedded), 3);
    if (sequence_parallel_) {
      // Both norms of a layer, neighbours in the arena.
      const ParameterSpec& first = table_.specs[static_cast<size_t>(table_.Find("layers.0.attention_norm.weight"))];
      const ParameterSpec& last = table_.specs[static_cast<size_t>(table_.Find("layers.0.feed_forward_norm.weight"))];
      Send("norm gradients", Collective::kAllReduce, Group::kTensor, shape_.layers,
           SumSize(static_cast<double>(last.offset + last.local_size() - first.offset)));
      Send("final norm's gradient", Collective::kAllReduce, Group::kTensor, 1,
           SumSize(static_cast<double>(shape_.width)));
    }
  }

  // The vocabulary-sized factor of the head, the last of its parameters, or the embedding where the head is that.
  Range HeadElements() const {
    const bool own = table_.specs.back().role == ParameterRole::kHead;
    return table_.ElementsOf({.first = own ? static_cast<int>(table_.specs.size()) - 1 : 0, .count = 1});
  }

  std::vector<GradientBucket> Buckets() const {
    const auto bytes = static_cast<int64_t>(config_.mesh().bucket_mebibytes() * 1024 * 1024);
    return CutIntoBuckets(table_.segments, SizeOf(AccumulationType(type_)), bytes);
  }

  void Reduce() {
    phase_ = StepPhase::kReduce;
    auto segment = static_cast<int64_t>(table_.segments.size());
    for (const GradientBucket& bucket : Buckets()) {
      // Segment 0 is the embedding, 1 to L the layers; the bucket starts when its lowest segment is complete.
      segment -= bucket.segments;
      const size_t before = work_.collectives.size();
      Send("gradients", config_.mesh().shard_optimizer() ? Collective::kReduceScatter : Collective::kAllReduce,
           Group::kData, 1, SumSize(static_cast<double>(bucket.elements.size())));
      if (work_.collectives.size() == before) continue;
      work_.collectives.back().backward_left =
          static_cast<double>(std::max<int64_t>(segment - 1, 0)) / static_cast<double>(shape_.layers);
    }
    Memory("gradient norm", 1, SumSize(static_cast<double>(Owned())));
  }

  bool Sharded() const { return config_.mesh().shard_optimizer() && config_.mesh().data() > 1; }
  int64_t Owned() const { return Sharded() ? table_.size / config_.mesh().data() : table_.size; }

  void Optimizer() {
    phase_ = StepPhase::kOptimizer;
    const auto owned = static_cast<double>(Owned());
    // AdamW reads the gradient, reads and writes weight and both moments, and writes a copy in the compute type.
    const bool copy = type_ != AccumulationType(type_);
    Memory("zero gradients", 1, SumSize(static_cast<double>(table_.size)));
    Memory("AdamW", 1, SumSize(7 * owned) + (copy ? Size(owned) : 0), static_cast<int>(table_.specs.size()));
    if (!Sharded()) return;
    for (const GradientBucket& bucket : Buckets()) {
      Send("weights", Collective::kAllGather, Group::kData, 1, Size(static_cast<double>(bucket.elements.size())));
    }
  }

  // The decomposition of the head (model/measure/head_decomposition.h).
  void Telemetry() {
    phase_ = StepPhase::kTelemetry;
    const MeasurementShape measured = MeasurementShape::Of(config_, rank_, device_);
    const int64_t width = measured.width, own = measured.own_tokens(), chunk = measured.token_chunk();
    const int64_t rows = measured.OwnRows(0).size(), calls = work_.micro_batches,
                  chunks = calls * measured.token_chunks();
    constexpr double kDouble = 8;
    const double matrix = kDouble * static_cast<double>(width * width);
    const auto send_over_mesh = [&](const std::string& name, double bytes) {
      Send(name, Collective::kAllReduce, Group::kTensor, 1, bytes);
      Send(name, Collective::kAllReduce, Group::kData, 1, bytes);
    };
    Product("Gram matrix of the head", 1, width, width, rows, Result::kAccumulated);
    Memory("directions of the head's rows", 1, 2 * Size(static_cast<double>(rows * width)));
    send_over_mesh("Gram matrix of the head", matrix);

    Product("Gram matrix of the gradient", calls, width, width, own, Result::kAccumulated);
    Product("gradient and hidden states", calls, width, shape_.width, own, Result::kAccumulated);
    Product("Gram matrix of the hidden states", calls, shape_.width, shape_.width, own, Result::kAccumulated);
    if (type_ != AccumulationType(type_)) {
      Memory("gradient in wide numbers", calls, SumSize(2 * static_cast<double>(measured.tokens * width)));
      Send("gradient in wide numbers", Collective::kReduceScatter, Group::kTensor, calls,
           SumSize(static_cast<double>(ranks_ * own * width)));
    }
    // Of bf16 parts six products count, of weights, which are bf16, three (ops/split.h).
    Product("retained gradient", chunks, chunk, width, measured.split ? 6 * width : width, Result::kLogits);
    Product("rows of the targets, projected", chunks, chunk, width, measured.split ? 3 * width : width,
            Result::kLogits);
    Product("Gram matrix of the retained gradient", chunks, width, width, chunk, Result::kAccumulated);
    Send("rows of the targets", Collective::kReduceScatter, Group::kTensor, chunks,
         Size(static_cast<double>(ranks_ * chunk * width)));
    const auto logits = static_cast<double>(measured.tokens * vocabulary_);
    Memory("energy of vocabulary rows", calls, Size(logits));

    const auto sums =
        static_cast<double>(2 * width * width + width * shape_.width + shape_.width * shape_.width + shape_.width);
    send_over_mesh("sums over tokens", kDouble * sums);
    const auto gradient = static_cast<double>(vocabulary_ * width);
    if (Sharded()) {
      const Range head = HeadElements();
      for (const GradientBucket& bucket : Buckets()) {
        if (bucket.elements.end <= head.begin || bucket.elements.begin >= head.end) continue;
        Send("head's gradient", Collective::kAllGather, Group::kData, 1,
             SumSize(static_cast<double>(bucket.elements.size())));
      }
    }
    if (head_.in_embedding) {
      Memory("embedding's share of the gradient", 1, SumSize(4 * gradient), 3);
      Send("embedding's share of the gradient", Collective::kAllReduce, Group::kData, 1, SumSize(gradient));
    }
    if (type_ != AccumulationType(type_)) Memory("head's gradient, rounded", 1, SumSize(gradient) + Size(gradient));
    Product("Gram matrix of the head's gradient", 1, width, width, rows, Result::kAccumulated);
    send_over_mesh("Gram matrix of the head's gradient", matrix);
    const int64_t frequent = std::min(measured.frequent_rows(), rows);
    Product("frequent rows, projected", 1, frequent, width, measured.split ? 3 * width : width, Result::kLogits);
    Product("Gram matrices of frequent rows", 1, width, width, frequent, Result::kAccumulated);

    const int64_t sampled = measured.sampled, taken = measured.sample_count();
    Send("sampled hidden states", Collective::kAllReduce, Group::kData, 1,
         Size(static_cast<double>(sampled * shape_.width)));
    Product("logits of sampled tokens", 1, sampled, rows, width, Result::kLogits);
    Product("Gram matrix of sampled tokens", 1, sampled, sampled, rows, Result::kAccumulated);
    send_over_mesh("Gram matrix of sampled tokens", SumSize(static_cast<double>(taken * taken)));
    const int64_t tested = TokenSample::Of(taken, MeasurementShape::kMostTested).count;
    Product("logits of tested tokens", 2, tested, rows, width, Result::kLogits);
    send_over_mesh("gradient of tested tokens", kDouble * static_cast<double>(tested * width));
    send_over_mesh("lost gradient of tested tokens", kDouble * static_cast<double>(tested * width));
    send_over_mesh("energies of tested tokens", kDouble * 2);
  }

  const proto::RunConfig& config_;
  ModelShape shape_;
  HeadShape head_;
  int ranks_, rank_;    // tensor
  int64_t vocabulary_;  // rows of this rank
  DType type_;
  ParameterTable table_;
  Device device_;
  bool sequence_parallel_;
  int64_t tokens_, local_, query_, kv_, features_;
  StepPhase phase_ = StepPhase::kForward;
  StepWork work_;
};

}  // namespace

StepWork WorkOfStep(const proto::RunConfig& config, int tensor_rank, Device device) {
  return Inventory(config, tensor_rank, device).Take();
}

const char* PhaseName(StepPhase phase) {
  constexpr const char* kNames[] = {"forward", "head", "backward", "reduce", "optimizer", "telemetry"};
  return kNames[static_cast<int>(phase)];
}

const char* KindName(CollectiveWork::Kind kind) {
  constexpr const char* kNames[] = {"all-reduce", "reduce-scatter", "all-gather"};
  return kNames[static_cast<int>(kind)];
}

const char* GroupName(CollectiveWork::Group group) {
  return group == CollectiveWork::Group::kTensor ? "tensor" : "data";
}

}  // namespace isthmus
