// A real Slurm of four nodes on this machine (tests/slurm/cluster), for as long as the object lives.
#ifndef ISTHMUS_TESTS_SUPPORT_SLURM_CLUSTER_H_
#define ISTHMUS_TESTS_SUPPORT_SLURM_CLUSTER_H_

#include <cstdio>
#include <string>

#include "tests/support/program.h"

namespace isthmus::testing {

class SlurmCluster {
 public:
  // Waits until its nodes are idle, or it is known that they will never be.
  SlurmCluster();
  // Nothing of it stays, even when the test is killed.
  ~SlurmCluster();
  SlurmCluster(const SlurmCluster&) = delete;
  SlurmCluster& operator=(const SlurmCluster&) = delete;

  // "ready"; "skipped: " and why it can't run here; or what went wrong.
  const std::string& state() const { return state_; }

  // Runs a shell command as a user of the cluster gives it, also for its own jobs. Single quotes can't be part of it.
  ProgramResult Run(const std::string& command, int seconds = kPatience) const;
  // Kills the node's slurmd and all that runs there at once; the controller finds out by itself.
  void Crash(const std::string& node);

  // Queues `program` by launch/slurm/submit with these options and environment ("NAME=value …"). Its logs are
  // LogOf("JOB.log") and LogOf("JOB-rank-0000.log"). Returns the number of the job; empty when it was refused.
  std::string Submit(const std::string& program, const std::string& options, const std::string& environment = "") const;
  std::string LogOf(const std::string& name) const { return folder_ / ("logs/isthmus-" + name); }
  // One of the fields that `scontrol show job` shows: "JobState", "Restarts", "ExitCode", "NodeList".
  std::string Field(const std::string& job, const std::string& name) const;
  // Waits until that field has this value; false when it hasn't in `seconds`.
  bool WaitFor(const std::string& job, const std::string& name, const std::string& value,
               int seconds = kPatience) const;
  // Returns all that is known of a job, for messages.
  std::string Describe(const std::string& job) const;

 private:
  TemporaryFolder folder_;
  std::FILE* commands_ = nullptr;  // standard input of tests/slurm/cluster
  std::string state_;
};

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_SLURM_CLUSTER_H_
