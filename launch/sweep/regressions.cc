#include "launch/sweep/regressions.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

namespace isthmus::sweep {
namespace {

// Returns the tokens after which an arm has the loss at which the worst arm of its combination ends; NaN if it never
// has, or if that is known as a bound alone.
double TokensToWorst(const ArmResult& arm, const ArmResult& worst) {
  const double tokens = worst.runs.mean.back().last_tokens;
  if (&arm == &worst) return tokens;
  const report::SpeedUp& factor = arm.factors->tokens;
  return factor.kind == report::SpeedUp::Kind::kFactor ? tokens / factor.factor
                                                       : std::numeric_limits<double>::quiet_NaN();
}

// The combination's arms, and what they are asked for.
class CellRegression {
 public:
  CellRegression(const proto::SweepConfig& config, absl::Span<const ArmResult> cell)
      : config_(config), cell_(cell), worst_(WorstOf(cell)) {}

  RegressionResult Ask(const proto::SweepRegression& regression) const {
    RegressionResult result{.name = regression.name(), .cell = CellText(config_, cell_[0].survey)};
    std::vector<const ArmResult*> arms;
    std::vector<double> y;
    for (const ArmResult& arm : cell_) {
      const std::optional<std::string> reason = ReasonAgainst(regression, arm);
      if (reason.has_value()) {
        result.left_out.push_back(absl::StrCat(arm.survey.arm, ": ", *reason));
        continue;
      }
      arms.push_back(&arm);
      result.arms.push_back(arm.survey.arm);
      y.push_back(std::log(TokensToWorst(arm, *worst_)));
    }
    for (const std::string& key : regression.figures()) {
      std::vector<double> x;
      for (const ArmResult* arm : arms) x.push_back(arm->figures[IndexOf(key)].value());
      FigureFit fit{.key = key, .points = {}, .line = FitLine(x, y, config_.confidence())};
      for (size_t i = 0; i < x.size(); ++i) fit.points.emplace_back(x[i], y[i]);
      result.fits.push_back(std::move(fit));
    }
    return result;
  }

 private:
  size_t IndexOf(const std::string& key) const {
    const auto found = std::find_if(config_.figures().begin(), config_.figures().end(),
                                    [&](const proto::SweepFigure& figure) { return figure.key() == key; });
    return static_cast<size_t>(found - config_.figures().begin());
  }

  std::optional<std::string> ReasonAgainst(const proto::SweepRegression& regression, const ArmResult& arm) const {
    const auto& without = regression.without();
    if (std::find(without.begin(), without.end(), arm.survey.arm) != without.end()) return "the sweep leaves it out";
    if (worst_ == nullptr || arm.runs.mean.empty()) return "no run of it has finished";
    if (!std::isfinite(TokensToWorst(arm, *worst_))) {
      return "where it comes down to the worst arm's loss is not known";
    }
    for (const std::string& key : regression.figures()) {
      if (!std::isfinite(arm.figures[IndexOf(key)].value())) return absl::StrCat("it has no ", key);
    }
    return std::nullopt;
  }

  const proto::SweepConfig& config_;
  const absl::Span<const ArmResult> cell_;
  const ArmResult* const worst_;
};

}  // namespace

std::vector<RegressionResult> RegressionsOf(const proto::SweepConfig& config, absl::Span<const ArmResult> results) {
  std::vector<RegressionResult> regressions;
  for (const auto& cell : CellsOf(results)) {
    const CellRegression asked(config, cell);
    for (const proto::SweepRegression& regression : config.regressions()) regressions.push_back(asked.Ask(regression));
  }
  return regressions;
}

}  // namespace isthmus::sweep
