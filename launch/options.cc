#include "launch/options.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/strip.h>

#include <cmath>
#include <utility>

#include "runtime/status.h"

namespace isthmus {
namespace {

std::string DefaultText(const Options::Target& target) {
  if (const auto* text = std::get_if<std::string*>(&target)) return **text;
  if (const auto* number = std::get_if<int64_t*>(&target)) return absl::StrCat(**number);
  if (const auto* number = std::get_if<double*>(&target)) return absl::StrCat(**number);
  return "";
}

}  // namespace

Options::Options(std::string command, std::string summary)
    : command_(std::move(command)), summary_(std::move(summary)) {}

Options& Options::Add(std::string name, std::string value, std::string help, Target target, bool required) {
  std::string default_text = DefaultText(target);
  options_.push_back({.name = std::move(name),
                      .value = std::move(value),
                      .help = std::move(help),
                      .target = target,
                      .required = required,
                      .default_text = std::move(default_text)});
  return *this;
}

Options& Options::Positional(std::string value, std::string help, std::vector<std::string>* target, int least) {
  positional_value_ = std::move(value);
  positional_help_ = std::move(help);
  positional_ = target;
  least_positional_ = least;
  return *this;
}

absl::Status Options::Fail(const std::string& what) const {
  return absl::InvalidArgumentError(absl::StrCat(command_, ": ", what, "; see `", command_, " --help`"));
}

absl::Status Options::Set(Option& option, const std::string& text) const {
  const auto wrong = [&](const char* accepted) {
    return Fail(absl::StrCat("--", option.name, ": found \"", text, "\"; accepts ", accepted));
  };
  if (auto* const* target = std::get_if<std::string*>(&option.target)) {
    **target = text;
  } else if (auto* const* list = std::get_if<std::vector<std::string>*>(&option.target)) {
    (*list)->push_back(text);
  } else if (auto* const* whole = std::get_if<int64_t*>(&option.target)) {
    if (!absl::SimpleAtoi(text, *whole)) return wrong("a whole number");
  } else if (auto* const* number = std::get_if<double*>(&option.target)) {
    if (!absl::SimpleAtod(text, *number) || !std::isfinite(**number)) return wrong("a finite number");
  }
  option.given = true;
  return absl::OkStatus();
}

absl::Status Options::Parse(absl::Span<const std::string> arguments) {
  for (const std::string& argument : arguments) {
    if (argument == "--") break;
    if (argument == "--help" || argument == "-h") {
      help_wanted_ = true;
      return absl::OkStatus();
    }
  }
  bool only_positional = false;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (!only_positional && argument == "--") {
      only_positional = true;
      continue;
    }
    absl::string_view name = argument;
    if (only_positional || !absl::ConsumePrefix(&name, "--")) {
      if (positional_ == nullptr) return Fail(absl::StrCat("unexpected argument \"", argument, "\""));
      positional_->push_back(argument);
      continue;
    }
    const size_t equals = name.find('=');
    const std::string key(name.substr(0, equals));
    Option* option = nullptr;
    for (Option& candidate : options_) {
      if (candidate.name == key) option = &candidate;
    }
    if (option == nullptr) {
      std::vector<std::string> names;
      for (const Option& known : options_) names.push_back("--" + known.name);
      return Fail(absl::StrCat("unknown option --", key, "; accepted: ", absl::StrJoin(names, ", ")));
    }
    if (auto* const* flag = std::get_if<bool*>(&option->target)) {
      if (equals != absl::string_view::npos) return Fail(absl::StrCat("--", key, " takes no value"));
      **flag = true;
    } else if (equals != absl::string_view::npos) {
      ISTHMUS_RETURN_IF_ERROR(Set(*option, std::string(name.substr(equals + 1))));
    } else if (i + 1 < arguments.size()) {
      ISTHMUS_RETURN_IF_ERROR(Set(*option, arguments[++i]));
    } else {
      return Fail(absl::StrCat("--", key, " needs a value: ", option->value));
    }
  }
  for (const Option& option : options_) {
    if (option.required && !option.given)
      return Fail(absl::StrCat("--", option.name, " ", option.value, " is missing"));
  }
  if (positional_ != nullptr && static_cast<int>(positional_->size()) < least_positional_) {
    return Fail(absl::StrCat(positional_value_.substr(0, positional_value_.find(' ')), " is missing"));
  }
  return absl::OkStatus();
}

std::string Options::Help() const {
  std::string usage = absl::StrCat("usage: ", command_);
  std::string table;
  const auto row = [&](const std::string& left, const std::string& right) {
    absl::StrAppend(&table, "  ", left, std::string(left.size() < 32 ? 32 - left.size() : 1, ' '), right, "\n");
  };
  for (const Option& option : options_) {
    const std::string left = absl::StrCat("--", option.name, option.value.empty() ? "" : " ", option.value);
    const bool list = std::holds_alternative<std::vector<std::string>*>(option.target);
    if (option.required) absl::StrAppend(&usage, " ", left);
    row(left, absl::StrCat(option.help, list ? "; may be repeated" : "",
                           option.default_text.empty() ? "" : absl::StrCat(" (", option.default_text, ")")));
  }
  bool optional = false;
  for (const Option& option : options_) optional |= !option.required;
  if (optional) absl::StrAppend(&usage, " [options]");
  if (positional_ != nullptr) {
    absl::StrAppend(&usage, " ", positional_value_);
    row(positional_value_, positional_help_);
  }
  row("--help", "this text");
  return absl::StrCat(usage, "\n\n", summary_, "\n\n", table);
}

}  // namespace isthmus
