#include <unistd.h>

#include <iostream>
#include <string>
#include <vector>

#include "launch/commands.h"

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  return isthmus::RunProgram(arguments, std::cout, std::cerr, isatty(STDOUT_FILENO) == 1);
}
