#include "runtime/npy.h"

#include <absl/memory/memory.h>
#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/string_view.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "runtime/status.h"

namespace isthmus {
namespace {

constexpr absl::string_view kMagic("\x93NUMPY", 6);

struct TypeName {
  NpyType type;
  const char* descriptor;
  const char* name;
  int64_t bytes;
};
constexpr TypeName kTypes[] = {{NpyType::kFloat32, "<f4", "float32", 4},
                               {NpyType::kFloat64, "<f8", "float64", 8},
                               {NpyType::kInt32, "<i4", "int32", 4},
                               {NpyType::kInt64, "<i8", "int64", 8}};

const TypeName& NameOf(NpyType type) {
  for (const TypeName& name : kTypes) {
    if (name.type == type) return name;
  }
  return kTypes[0];
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  return absl::StrCat("(", absl::StrJoin(shape, ", "), shape.size() == 1 ? ",)" : ")");
}

// The header is a Python dictionary of three entries: a string, a boolean, a tuple of integers. This reads no more of
// the language than that.
class HeaderParser {
 public:
  explicit HeaderParser(absl::string_view text) : text_(text) {}

  // Returns false when the text is anything else.
  bool Parse() {
    if (!Take("{")) return false;
    while (!Take("}")) {
      const std::optional<std::string> key = String();
      if (!key || !Take(":") || !Value(*key)) return false;
      if (!Take(",") && Peek() != '}') return false;
    }
    return text_.find_first_not_of(" \n\r\t") == absl::string_view::npos && descriptor && fortran_order && shape;
  }

  std::optional<std::string> descriptor;
  std::optional<bool> fortran_order;
  std::optional<std::vector<int64_t>> shape;

 private:
  char Peek() {
    text_ = absl::StripLeadingAsciiWhitespace(text_);
    return text_.empty() ? '\0' : text_.front();
  }
  bool Take(absl::string_view token) {
    Peek();
    if (!absl::StartsWith(text_, token)) return false;
    text_.remove_prefix(token.size());
    return true;
  }
  std::optional<std::string> String() {
    const char quote = Peek();
    if (quote != '\'' && quote != '"') return std::nullopt;
    const size_t end = text_.find(quote, 1);
    if (end == absl::string_view::npos) return std::nullopt;
    std::string value(text_.substr(1, end - 1));
    text_.remove_prefix(end + 1);
    return value;
  }
  std::optional<std::vector<int64_t>> Tuple() {
    if (!Take("(")) return std::nullopt;
    std::vector<int64_t> values;
    while (!Take(")")) {
      Peek();
      const size_t digits = std::min(text_.find_first_not_of("0123456789"), text_.size());
      int64_t value = 0;
      if (digits == 0 || !absl::SimpleAtoi(text_.substr(0, digits), &value)) return std::nullopt;
      text_.remove_prefix(digits);
      values.push_back(value);
      if (!Take(",") && Peek() != ')') return std::nullopt;
    }
    return values;
  }
  bool Value(const std::string& key) {
    if (key == "descr") {
      descriptor = String();
      return descriptor.has_value();
    }
    if (key == "fortran_order") {
      if (Take("True")) {
        fortran_order = true;
      } else if (Take("False")) {
        fortran_order = false;
      }
      return fortran_order.has_value();
    }
    if (key == "shape") {
      shape = Tuple();
      return shape.has_value();
    }
    return false;
  }

  absl::string_view text_;
};

// Most bytes of a header. NumPy itself reads no more than 10,000 by default.
constexpr size_t kMostHeaderBytes = 1 << 20;

// Returns all that stands before the elements (version 1.0, C order).
std::string HeaderOf(NpyType type, const std::vector<int64_t>& shape) {
  std::string header = absl::StrCat("{'descr': '", NameOf(type).descriptor,
                                    "', 'fortran_order': False, 'shape': ", ShapeText(shape), ", }");
  // The elements begin at a multiple of 64 bytes.
  constexpr size_t kBefore = 10, kMultiple = 64;
  header.append(kMultiple - 1 - (kBefore + header.size()) % kMultiple, ' ');
  header += '\n';
  const char prefix[4] = {1, 0, static_cast<char>(header.size() & 0xFF), static_cast<char>(header.size() >> 8)};
  return absl::StrCat(kMagic, absl::string_view(prefix, sizeof(prefix)), header);
}

template <typename T>
std::string BytesOfVector(NpyType type, absl::Span<const T> vector) {
  return absl::StrCat(HeaderOf(type, {static_cast<int64_t>(vector.size())}),
                      absl::string_view(reinterpret_cast<const char*>(vector.data()), vector.size() * sizeof(T)));
}

}  // namespace

absl::Status NpyArray::Fail(const std::string& what) const {
  return absl::InvalidArgumentError(absl::StrCat(path_, ": ", what));
}

std::string NpyArray::Describe() const { return absl::StrCat(NameOf(type_).name, " ", ShapeText(shape_)); }

absl::StatusOr<std::unique_ptr<const NpyArray>> NpyArray::Open(const std::string& path) {
  // O_NONBLOCK is needed: a pipe that nobody writes to must not make this wait.
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return FileError(path, "can't open the array", errno);
  auto array = absl::WrapUnique(new NpyArray(path, descriptor));
  ISTHMUS_RETURN_IF_ERROR(array->ParseHeader());
  return array;
}

NpyArray::~NpyArray() { close(descriptor_); }

absl::Status NpyArray::ReadBytes(int64_t offset, void* to, int64_t bytes) const {
  char* next = static_cast<char*>(to);
  for (const int64_t end = offset + bytes; offset < end;) {
    const ssize_t got = pread(descriptor_, next, static_cast<size_t>(end - offset), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FileError(path_, "can't read", errno);
    if (got == 0) {
      return absl::DataLossError(absl::StrCat(path_, ": ends at byte ", offset, " and had ", bytes_,
                                              " bytes when it was opened: it was cut while it was read"));
    }
    next += got;
    offset += got;
  }
  return absl::OkStatus();
}

absl::Status NpyArray::ParseHeader() {
  struct stat information;
  if (fstat(descriptor_, &information) != 0) return FileError(path_, "can't open the array", errno);
  if (!S_ISREG(information.st_mode)) return Fail("is not a file; accepts .npy files, as numpy.save writes them");
  bytes_ = information.st_size;
  if (bytes_ == 0) return Fail("is empty; accepts .npy files, as numpy.save writes them");
  // Reads magic, version, and the header's length.
  std::string file(std::min<size_t>(12, static_cast<size_t>(bytes_)), '\0');
  ISTHMUS_RETURN_IF_ERROR(ReadBytes(0, file.data(), static_cast<int64_t>(file.size())));
  if (!absl::StartsWith(file, kMagic)) return Fail("is no .npy file; accepts those that numpy.save writes");
  if (file.size() < 8) return Fail("the header is truncated");
  const int major = static_cast<unsigned char>(file[6]);
  if (major < 1 || major > 3) return Fail(absl::StrCat(".npy version ", major, "; accepts 1 to 3"));
  const size_t width = major == 1 ? 2 : 4, start = 8 + width;
  if (file.size() < start) return Fail("the header is truncated");
  size_t length = 0;
  for (size_t i = width; i-- > 0;) length = length << 8 | static_cast<unsigned char>(file[8 + i]);
  const size_t follow = static_cast<size_t>(bytes_) - start;
  if (length > follow) {
    return Fail(absl::StrCat("the header is truncated: it states ", length, " bytes, ", follow, " follow"));
  }
  if (length > kMostHeaderBytes) {
    return Fail(absl::StrCat("the header has ", length, " bytes; accepts up to ", kMostHeaderBytes));
  }
  std::string text(length, '\0');
  ISTHMUS_RETURN_IF_ERROR(ReadBytes(static_cast<int64_t>(start), text.data(), static_cast<int64_t>(length)));
  HeaderParser header(text);
  // Structured types are lists there.
  if (!header.Parse()) return Fail("the header is not that of a plain array; accepts those that numpy.save writes");
  const TypeName* found = nullptr;
  for (const TypeName& type : kTypes) {
    if (*header.descriptor == type.descriptor) found = &type;
  }
  if (found == nullptr) {
    return Fail(absl::StrCat("dtype '", *header.descriptor,
                             "'; accepts little-endian float32 ('<f4'), float64 ('<f8'), int32 ('<i4') and int64 "
                             "('<i8'): convert with astype"));
  }
  type_ = found->type;
  fortran_order_ = *header.fortran_order;
  shape_ = *std::move(header.shape);
  const int64_t room = bytes_ - static_cast<int64_t>(start + length);
  int64_t needed = found->bytes;
  for (const int64_t extent : shape_) {
    if (__builtin_mul_overflow(needed, extent, &needed)) return Fail("the header states an impossible shape");
  }
  if (needed != room) {
    return Fail(absl::StrCat(Describe(), " needs ", needed, " bytes, the file has ", room,
                             " after its header: ", room < needed ? "it is truncated" : "something was added"));
  }
  size_ = needed / found->bytes;
  data_ = static_cast<int64_t>(start + length);
  return absl::OkStatus();
}

template <typename From, typename To>
absl::Status NpyArray::ReadRun(int64_t first, int64_t count, To* out, int64_t stride) const {
  constexpr int64_t kElements = (1 << 18) / sizeof(From);
  std::vector<From> block(static_cast<size_t>(std::min(kElements, count)));
  for (int64_t begin = 0; begin < count; begin += kElements) {
    const int64_t elements = std::min(kElements, count - begin);
    constexpr auto kBytes = static_cast<int64_t>(sizeof(From));
    ISTHMUS_RETURN_IF_ERROR(ReadBytes(data_ + (first + begin) * kBytes, block.data(), elements * kBytes));
    for (int64_t i = 0; i < elements; ++i) out[(begin + i) * stride] = static_cast<To>(block[static_cast<size_t>(i)]);
  }
  return absl::OkStatus();
}

absl::Status NpyArray::ReadRows(int64_t begin, int64_t count, double* out) const {
  const int64_t rows = shape_[0], columns = shape_[1];
  const auto read = [&](int64_t first, int64_t elements, double* to, int64_t stride) {
    return type_ == NpyType::kFloat32 ? ReadRun<float>(first, elements, to, stride)
                                      : ReadRun<double>(first, elements, to, stride);
  };
  if (!fortran_order_) return read(begin * columns, count * columns, out, 1);
  for (int64_t column = 0; column < columns; ++column) {
    ISTHMUS_RETURN_IF_ERROR(read(column * rows + begin, count, out + column, columns));
  }
  return absl::OkStatus();
}

absl::Status NpyArray::ReadIntegers(int64_t begin, int64_t count, int64_t* out) const {
  return type_ == NpyType::kInt32 ? ReadRun<int32_t>(begin, count, out, 1) : ReadRun<int64_t>(begin, count, out, 1);
}

std::string NpyBytes(absl::Span<const int32_t> vector) { return BytesOfVector(NpyType::kInt32, vector); }
std::string NpyBytes(absl::Span<const int64_t> vector) { return BytesOfVector(NpyType::kInt64, vector); }

absl::StatusOr<NpyWriter> NpyWriter::Create(const std::string& path, NpyType type, const std::vector<int64_t>& shape,
                                            FileOwner owner) {
  ISTHMUS_ASSIGN_OR_RETURN(auto file, DurableFile::Create(path, owner));
  const std::string header = HeaderOf(type, shape);
  ISTHMUS_RETURN_IF_ERROR(file->Append(header.data(), static_cast<int64_t>(header.size())));
  return NpyWriter(std::move(file));
}

}  // namespace isthmus
