#include "model/measure/part_energies.h"

#include <absl/types/span.h>

namespace isthmus {
namespace {

std::vector<HeadPart> PartsOf(const std::vector<int64_t>& rows, const std::vector<double>& energies,
                              const std::vector<double>& retained) {
  std::vector<HeadPart> parts;
  for (size_t i = 0; i < rows.size(); ++i) parts.push_back({rows[i], energies[i], retained[i]});
  return parts;
}

}  // namespace

void PartEnergies::AddTo(PackedSum& packed) {
  for (auto* energies : {&shards, &retained_shards, &buckets, &retained_buckets}) packed.Add(absl::MakeSpan(*energies));
}

std::vector<HeadPart> PartEnergies::ShardParts(const std::vector<int64_t>& rows) const {
  return PartsOf(rows, shards, retained_shards);
}

std::vector<HeadPart> PartEnergies::BucketParts(const std::vector<int64_t>& rows) const {
  return PartsOf(rows, buckets, retained_buckets);
}

}  // namespace isthmus
