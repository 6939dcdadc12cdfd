// A table of one command's options from which both the parser and the help text come.
#ifndef ISTHMUS_LAUNCH_OPTIONS_H_
#define ISTHMUS_LAUNCH_OPTIONS_H_

#include <absl/status/status.h>
#include <absl/types/span.h>

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace isthmus {

class Options {
 public:
  // Values go to these; the value before Parse is the default that the help states. A bool is a flag without a value. A
  // vector collects an option that may be repeated.
  using Target = std::variant<std::string*, int64_t*, double*, bool*, std::vector<std::string>*>;

  // `command` is as typed, "isthmus train". `summary` is one sentence.
  Options(std::string command, std::string summary);

  // An option is given as "--name value" or "--name=value". The help calls its value `value`. An option that is
  // `required` must be given.
  Options& Add(std::string name, std::string value, std::string help, Target target, bool required = false);
  // Takes arguments that are not options; at least `least`.
  Options& Positional(std::string value, std::string help, std::vector<std::string>* target, int least);

  // Errors: InvalidArgument that names the argument and what is accepted. --help, also -h, sets help_wanted and checks
  // nothing else.
  absl::Status Parse(absl::Span<const std::string> arguments);
  bool help_wanted() const { return help_wanted_; }
  std::string Help() const;

 private:
  struct Option {
    std::string name, value, help;
    Target target;
    bool required = false;
    bool given = false;
    std::string default_text;
  };
  absl::Status Set(Option& option, const std::string& text) const;
  absl::Status Fail(const std::string& what) const;

  std::string command_, summary_;
  std::vector<Option> options_;
  std::string positional_value_, positional_help_;
  std::vector<std::string>* positional_ = nullptr;
  int least_positional_ = 0;
  bool help_wanted_ = false;
};

}  // namespace isthmus

#endif  // ISTHMUS_LAUNCH_OPTIONS_H_
