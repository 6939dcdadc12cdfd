#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "launch/commands.h"

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  // Open MPI gives every rank a pseudo-terminal, whatever its own output is.
  const bool launched = std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr || std::getenv("SLURM_PROCID") != nullptr;
  return isthmus::RunProgram(arguments, std::cout, std::cerr, !launched && isatty(STDOUT_FILENO) == 1);
}
