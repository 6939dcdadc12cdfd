// A temporary folder that all ranks of a multi-process test share.
#ifndef ISTHMUS_TESTS_SUPPORT_SHARED_FOLDER_H_
#define ISTHMUS_TESTS_SUPPORT_SHARED_FOLDER_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "parallel/host_bytes.h"
#include "tests/support/mpi_world.h"
#include "tests/support/program.h"

namespace isthmus::testing {

// Rank 0 makes and removes it. Collective.
class SharedFolder {
 public:
  SharedFolder() {
    if (World().rank() == 0) folder_ = std::make_unique<TemporaryFolder>();
    path_ = folder_ != nullptr ? folder_->path() : "";
    EXPECT_TRUE(BroadcastBytes(World(), path_, 0).ok());
  }
  ~SharedFolder() { EXPECT_TRUE(World().Barrier().ok()); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::unique_ptr<TemporaryFolder> folder_;
  std::string path_;
};

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_SHARED_FOLDER_H_
