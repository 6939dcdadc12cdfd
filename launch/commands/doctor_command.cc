// Lists which of the things that Isthmus can use this machine has, and the remedy for each that it lacks.
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_split.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "launch/commands.h"
#include "launch/options.h"
#include "launch/threads.h"
#include "ops/library_versions.h"
#include "parallel/library_versions.h"
#include "runtime/backends.h"
#include "runtime/device.h"
#include "runtime/status.h"
#include "runtime/version.h"

namespace isthmus {
namespace {

void Line(std::ostream& out, absl::string_view what, absl::string_view found) {
  out << absl::StrFormat("%-10s %s\n", what, found);
}

void Missing(std::ostream& out, absl::string_view what, absl::string_view remedy) {
  Line(out, what, absl::StrCat("missing: ", remedy));
}

// CUDA counts 13010 for 13.1.
std::string CudaVersionText(int version) { return absl::StrCat(version / 1000, ".", version % 1000 / 10); }

void Library(std::ostream& out, absl::string_view name, const std::string& version, absl::string_view remedy) {
  version.empty() ? Missing(out, name, remedy) : Line(out, name, version);
}

// Returns the file that a shell would run for `command`; empty if there is none.
std::string FindInPath(const std::string& command) {
  const char* path = std::getenv("PATH");
  for (absl::string_view folder : absl::StrSplit(path != nullptr ? path : "", ':', absl::SkipEmpty())) {
    std::string file = absl::StrCat(folder, "/", command);
    if (access(file.c_str(), X_OK) == 0) return file;
  }
  return "";
}

void ShowGpus(std::ostream& out) {
  const auto count = CudaDeviceCount();
  if (!count.ok()) {
    Missing(out, "GPUs", absl::StrCat(count.status().message(), "; training runs on the CPU"));
    return;
  }
  for (int i = 0; i < *count; ++i) {
    const auto device = DescribeCudaDevice(i);
    if (!device.ok()) {
      Missing(out, "GPU", device.status().message());
      continue;
    }
    Line(out, absl::StrCat("GPU ", i),
         absl::StrFormat("%s, %.1f GiB, compute capability %d.%d, %d multiprocessors, at %s", device->name,
                         static_cast<double>(device->memory_bytes) / (1 << 30), device->major, device->minor,
                         device->multiprocessors, device->bus_id));
    if (device->major < 8) {
      Missing(out, "", "this GPU is older than compute capability 8.0, which the kernels are built for");
    }
  }
  for (int a = 0; a < *count; ++a) {
    for (int b = a + 1; b < *count; ++b) {
      Line(out, "link",
           absl::StrCat("GPU ", a, " and ", b, ": ", CudaPeersReach(a, b) ? "direct" : "through host memory only"));
    }
  }
}

void ShowCuda(std::ostream& out) {
  if (!kHasCuda) {
    Missing(out, "CUDA", "this program was built for the CPU; for GPUs build it with cmake --preset cuda");
    return;
  }
  const CudaVersions versions = FindCudaVersions();
  if (versions.driver == 0) {
    Missing(out, "driver", "no NVIDIA driver; install the one of your distribution (Debian: nvidia-driver)");
  } else if (versions.driver < versions.runtime) {
    Missing(out, "driver",
            absl::StrCat("it supports CUDA ", CudaVersionText(versions.driver), ", this program needs ",
                         CudaVersionText(versions.runtime), "; install a newer driver"));
  } else {
    Line(out, "driver", absl::StrCat("supports CUDA ", CudaVersionText(versions.driver)));
  }
  Line(out, "CUDA", CudaVersionText(versions.runtime));
  Library(out, "cuBLASLt", CublasLtVersion(), "it comes with the CUDA Toolkit");
  Library(out, "cuDNN", CudnnVersion(),
          "built without it: attention runs on a slower kernel; install cudnn9-cuda from NVIDIA's repository, run "
          "launch/install cuda, and build again");
  Library(out, "NCCL", NcclVersion(),
          "built without it: collectives go through host memory; install libnccl-dev from NVIDIA's repository and "
          "build again");
  ShowGpus(out);
}

// Returns "NCCL 2.28", or "no NCCL".
std::string LibraryText(absl::string_view name, const std::string& version) {
  return version.empty() ? absl::StrCat("no ", name) : absl::StrCat(name, " ", version);
}

void ShowLaunchers(std::ostream& out) {
  Line(out, "MPI", MpiVersion());
  const std::string mpirun = FindInPath("mpirun"), srun = FindInPath("srun");
  Library(out, "mpirun", mpirun, "install openmpi-bin to start several ranks");
  Library(out, "srun", srun, "only needed where Slurm starts the job; Debian: slurm-client");
}

}  // namespace

std::string BuildText() {
  const std::string start = absl::StrCat("isthmus ", kVersion, ", ");
  if (!kHasCuda) return absl::StrCat(start, "for the CPU, ", MpiVersion());
  return absl::StrCat(start, "for CUDA ", CudaVersionText(FindCudaVersions().runtime), " and the CPU, ",
                      LibraryText("cuBLASLt", CublasLtVersion()), ", ", LibraryText("cuDNN", CudnnVersion()), ", ",
                      LibraryText("NCCL", NcclVersion()), ", ", MpiVersion());
}

absl::Status DoctorCommand(absl::Span<const std::string> arguments, std::ostream& out) {
  Options options("isthmus doctor", "Shows what this machine has of what Isthmus can use, and how to get the rest.");
  ISTHMUS_RETURN_IF_ERROR(options.Parse(arguments));
  if (options.help_wanted()) {
    out << options.Help();
    return absl::OkStatus();
  }
  Line(out, "isthmus", kVersion);
  Line(out, "CPU", absl::StrCat(ThreadsPerRank(1), " threads for one rank"));
  ShowLaunchers(out);
  ShowCuda(out);
  return absl::OkStatus();
}

}  // namespace isthmus
