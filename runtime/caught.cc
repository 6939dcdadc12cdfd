#include "runtime/caught.h"

#include <absl/strings/str_cat.h>
#include <cxxabi.h>

#include <cstdlib>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <typeinfo>

namespace isthmus {
namespace {

std::string NameOf(const std::exception& error) {
  int failed = 0;
  const std::unique_ptr<char, void (*)(void*)> name(
      abi::__cxa_demangle(typeid(error).name(), nullptr, nullptr, &failed), std::free);
  return failed == 0 ? name.get() : typeid(error).name();
}

absl::Status OfSystem(const std::system_error& error) {
  const bool no_thread = error.code() == std::errc::resource_unavailable_try_again;
  if (!no_thread) return absl::FailedPreconditionError(error.what());
  return absl::ResourceExhaustedError(
      absl::StrCat("a thread can't be started: ", error.code().message(),
                   "; allow more (ulimit -u, or the container's limit of processes), or use fewer threads "
                   "(OMP_NUM_THREADS)"));
}

// Sets `thrown` if `call` throws.
absl::Status Try(absl::FunctionRef<absl::Status()> call, bool& thrown) {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    thrown = true;
    return absl::ResourceExhaustedError(
        "there is not enough memory (std::bad_alloc); use less of it, or raise its limit (ulimit -v, or the job's)");
  } catch (const std::length_error& error) {
    thrown = true;
    return absl::ResourceExhaustedError(
        absl::StrCat("more memory was asked for than there can be (std::length_error: ", error.what(), ")"));
  } catch (const std::system_error& error) {
    thrown = true;
    return OfSystem(error);
  } catch (const std::exception& error) {
    thrown = true;
    return absl::InternalError(
        absl::StrCat("an unexpected error, which is a fault of the program: ", NameOf(error), ": ", error.what()));
  } catch (...) {
    thrown = true;
    return absl::InternalError("an unexpected error of an unknown type, which is a fault of the program");
  }
}

}  // namespace

absl::Status Caught(absl::FunctionRef<absl::Status()> call) {
  bool thrown = false;
  return Try(call, thrown);
}

absl::Status CaughtOnRank(int ranks, absl::FunctionRef<absl::Status()> call) {
  bool thrown = false;
  absl::Status status = Try(call, thrown);
  return thrown && ranks > 1 ? absl::InternalError(status.message()) : status;
}

}  // namespace isthmus
