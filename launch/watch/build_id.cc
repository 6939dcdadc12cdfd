#include "launch/watch/build_id.h"

#include <absl/strings/escaping.h>
#include <absl/strings/string_view.h>
#include <elf.h>
#include <link.h>

#include <cstddef>

namespace isthmus {
namespace {

// Returns the build ID in a segment of ELF notes, empty if it is not there. A note has sizes of name and description,
// type, and both, each filled up to four bytes.
absl::string_view FindBuildId(absl::string_view notes) {
  const auto padded = [](size_t bytes) { return (bytes + 3) / 4 * 4; };
  while (notes.size() >= sizeof(ElfW(Nhdr))) {
    const auto& note = *reinterpret_cast<const ElfW(Nhdr)*>(notes.data());
    notes.remove_prefix(sizeof(note));
    const size_t name = padded(note.n_namesz), description = padded(note.n_descsz);
    if (name + description > notes.size()) break;
    if (note.n_type == NT_GNU_BUILD_ID && notes.substr(0, 4) == absl::string_view("GNU\0", 4)) {
      return notes.substr(name, note.n_descsz);
    }
    notes.remove_prefix(name + description);
  }
  return "";
}

int OfTheProgram(dl_phdr_info* object, size_t, void* result) {
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = object->dlpi_phdr[i];
    if (segment.p_type != PT_NOTE) continue;
    const absl::string_view id = FindBuildId(
        {reinterpret_cast<const char*>(object->dlpi_addr + segment.p_vaddr), static_cast<size_t>(segment.p_memsz)});
    if (!id.empty()) *static_cast<std::string*>(result) = absl::BytesToHexString(id);
  }
  return 1;  // the program comes first; its libraries are not looked at
}

}  // namespace

std::string BuildId() {
  std::string id;
  dl_iterate_phdr(&OfTheProgram, &id);
  return id;
}

}  // namespace isthmus
