#include "tests/support/head_comparison.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "launch/commands/head_json.h"

namespace isthmus::testing {
namespace {

// Returns the least scale to which a deviation of the figure is relative.
double ScaleOf(const std::string& name, const nlohmann::json& expected) {
  const double norm = expected["logit_gradient_norm"];
  if (absl::StrContains(name, "anisotropy") || absl::StrContains(name, "entropy") || name == "/decomposition_error" ||
      absl::EndsWith(name, "lost_energy_ratio") || absl::EndsWith(name, "lost_norm_ratio")) {
    return 1;
  }
  if (absl::StartsWith(name, "/head_error_ratio") || absl::StartsWith(name, "/retained_target")) return 1e-2;
  if (absl::EndsWith(name, "_energy")) return 1e-3 * norm * norm;
  if (absl::EndsWith(name, "gradient_norm")) return norm;
  // These are roots of eigenvalues.
  if (absl::StartsWith(name, "/sampled_singular_values")) return expected["sampled_singular_values"][0].get<double>();
  if (absl::StartsWith(name, "/head_singular_values")) return expected["head_singular_values"][0].get<double>();
  return 0;
}

// These are roots of differences: they keep half of the digits.
bool IsRoot(const std::string& name) {
  return absl::EndsWith(name, "lost_norm_ratio") || absl::StrContains(name, "lost_gradient_norm") ||
         absl::StartsWith(name, "/sampled_singular_values");
}

bool Same(const std::string& name, double found, double expected, double tolerance, const nlohmann::json& all) {
  if (absl::StrContains(name, "/counts/")) {
    return std::abs(found - expected) <= (tolerance < 1e-6 ? 0 : 0.02 * all["tokens"].get<double>());
  }
  if (absl::StrContains(name, "components_for")) return std::abs(found - expected) <= (tolerance < 1e-6 ? 0 : 1);
  const double scale = std::max(std::abs(expected), ScaleOf(name, all));
  if (std::abs(found - expected) <= tolerance * scale) return true;
  return IsRoot(name) && std::abs(found * found - expected * expected) <= tolerance * scale * scale;
}

nlohmann::json JsonOf(const HeadFigures& figures) { return nlohmann::json::parse(HeadJson(figures)); }

}  // namespace

std::string DifferentFigures(const nlohmann::json& found, const nlohmann::json& expected, double tolerance) {
  std::string text;
  nlohmann::json wanted = expected;
  if (wanted.contains("sampled_singular_values") && found.contains("sampled_singular_values")) {
    // fp32 knows fewer of them (HeadFigures::sampled_singular_values).
    auto& values = wanted["sampled_singular_values"];
    const size_t known = found["sampled_singular_values"].size();
    const double least = std::sqrt(wanted["sampled_tokens"].get<double>() * 0x1p-24);
    if (tolerance > 1e-6 && known < values.size() && known > 0 &&
        values[known].get<double>() < 1.1 * least * values[0].get<double>()) {
      values.erase(values.begin() + static_cast<std::ptrdiff_t>(known), values.end());
    }
  }
  const nlohmann::json flat = wanted.flatten(), flat_found = found.flatten();
  for (const auto& [name, value] : flat.items()) {
    if (!flat_found.contains(name)) {
      absl::StrAppend(&text, name, " is missing\n");
    } else if (value.is_string() && flat_found[name] == value) {
      continue;
    } else if (!value.is_number() || !flat_found[name].is_number() ||
               !Same(name, flat_found[name], value, tolerance, expected)) {
      absl::StrAppend(&text, name, ": found ", flat_found[name].dump(), ", expected ", value.dump(), "\n");
    }
  }
  if (flat.size() != flat_found.size()) absl::StrAppend(&text, flat_found.size(), " figures, not ", flat.size(), "\n");
  return text;
}

void ExpectSameFigures(const HeadFigures& found, const HeadFigures& expected, double tolerance) {
  EXPECT_EQ(DifferentFigures(JsonOf(found), JsonOf(expected), tolerance), "");
}

void ExpectSameLayers(const std::vector<LayerFigures>& found, const std::vector<LayerFigures>& expected,
                      double tolerance) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_NEAR(found[i].gradient_norm, expected[i].gradient_norm, tolerance * expected[i].gradient_norm) << i;
    EXPECT_NEAR(found[i].anisotropy, expected[i].anisotropy, tolerance) << i;
    EXPECT_NEAR(found[i].centred_anisotropy, expected[i].centred_anisotropy, tolerance) << i;
  }
}

std::string FaultsThatGoUnnoticed(const HeadFigures& figures, double tolerance) {
  const nlohmann::json right = JsonOf(figures);
  const nlohmann::json flat = right.flatten();
  std::string unnoticed;
  for (const auto& [name, value] : flat.items()) {
    nlohmann::json wrong = flat;
    if (value.is_string()) continue;
    const double number = value;
    if (absl::StrContains(name, "/counts/")) {
      wrong[name] = number + 0.05 * right["tokens"].get<double>();
    } else if (value.is_number_integer()) {
      wrong[name] = number + 2;
    } else {
      // A root is compared by its square, so its fault is twice the root of the tolerance.
      const double fault = (IsRoot(name) ? 2 * std::sqrt(tolerance) : 3 * tolerance);
      wrong[name] = number + fault * std::max(std::abs(number), ScaleOf(name, right));
    }
    if (DifferentFigures(wrong.unflatten(), right, tolerance).empty()) absl::StrAppend(&unnoticed, name, " ");
  }
  return unnoticed;
}

}  // namespace isthmus::testing
