// Main of the multi-process tests. Every rank runs all tests in the same order, and a failure on any rank fails all.
#include <gtest/gtest.h>
#include <mpi.h>

#include <iostream>

int main(int argc, char** argv) {
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
  testing::InitGoogleTest(&argc, argv);
  int failed = RUN_ALL_TESTS();
  const testing::UnitTest& tests = *testing::UnitTest::GetInstance();
  if (tests.test_to_run_count() == 0) {
    std::cout << "no test of that name\n";
    failed = 1;
  }
  MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  // CTest counts this status as skipped: nothing ran here nor anywhere, because the ranks run alike.
  if (failed == 0 && tests.skipped_test_count() == tests.test_to_run_count()) failed = 77;
  MPI_Finalize();
  return failed;
}
