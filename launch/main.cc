#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "launch/commands.h"

namespace {

// Opens standard streams that are closed. Otherwise the next file, or a pipe of MPI, would get the number, and messages
// with it. As with a closed stream, writing to it is an error of the command that prints there.
void OccupyStandardStreams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(stream, F_GETFD) >= 0) continue;
    if (open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY) != stream) return;
  }
}

}  // namespace

int main(int argc, char** argv) {
  OccupyStandardStreams();
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  // Open MPI gives every rank a pseudo-terminal, whatever its own output is.
  const bool launched = std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr || std::getenv("SLURM_PROCID") != nullptr;
  return isthmus::RunProgram(arguments, std::cout, std::cerr, !launched && isatty(STDOUT_FILENO) == 1);
}
