#include "runtime/caught.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <exception>
#include <filesystem>
#include <functional>
#include <limits>
#include <new>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "tests/support/no_threads.h"

namespace isthmus {
namespace {

using ::testing::HasSubstr;

struct Odd : std::exception {
  const char* what() const noexcept override { return "odd"; }
};

struct Thrown {
  std::function<void()> call;
  absl::StatusCode code;
  const char* message;
};

std::vector<Thrown> AllKinds() {
  return {
      {[] { throw std::bad_alloc(); }, absl::StatusCode::kResourceExhausted, "not enough memory (std::bad_alloc)"},
      {[] { std::vector<char>().reserve(std::numeric_limits<size_t>::max()); }, absl::StatusCode::kResourceExhausted,
       "more memory was asked for than there can be"},
      {[] { std::thread([] {}).join(); }, absl::StatusCode::kResourceExhausted, "a thread can't be started"},
      {[] { static_cast<void>(std::filesystem::file_size("/nowhere/file")); }, absl::StatusCode::kFailedPrecondition,
       "/nowhere/file"},
      {[] { throw Odd(); }, absl::StatusCode::kInternal,
       "a fault of the program: isthmus::(anonymous namespace)::Odd: odd"},
      {[] { throw 7; }, absl::StatusCode::kInternal, "unknown type"},
  };
}

TEST(Caught, EveryExceptionIsAStatusThatNamesIt) {
  const testing::NoThreads no_threads;
  for (const Thrown& thrown : AllKinds()) {
    const auto call = [&] {
      thrown.call();
      return absl::OkStatus();
    };
    const absl::Status alone = Caught(call), also_alone = CaughtOnRank(1, call), of_many = CaughtOnRank(2, call);
    EXPECT_EQ(alone.code(), thrown.code) << alone;
    EXPECT_THAT(std::string(alone.message()), HasSubstr(thrown.message));
    EXPECT_EQ(also_alone, alone);
    // The other ranks do not know of the exception.
    EXPECT_EQ(of_many, absl::InternalError(alone.message()));
  }
}

TEST(Caught, WhatIsReturnedStaysAsItIs) {
  for (const int ranks : {1, 2}) {
    EXPECT_TRUE(CaughtOnRank(ranks, [] { return absl::OkStatus(); }).ok());
    const absl::Status status = absl::ResourceExhaustedError("all ranks know");
    EXPECT_EQ(CaughtOnRank(ranks, [&] { return status; }), status);
  }
}

}  // namespace
}  // namespace isthmus
