// A compressed file is read to its end, or an error says where it is damaged. Text is never lost without a word.
#include <absl/cleanup/cleanup.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "runtime/data/byte_source.h"
#include "runtime/data/line_reader.h"
#include "tests/support/program.h"

// Stands before the library's function, so that a test can let it fail.
static bool no_memory_for_zstd = false;
extern "C" ZSTD_DCtx* ZSTD_createDCtx() {
  if (no_memory_for_zstd) return nullptr;
  static const auto library = reinterpret_cast<ZSTD_DCtx* (*)()>(dlsym(RTLD_NEXT, "ZSTD_createDCtx"));
  return library();
}

namespace isthmus {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryFolder;
using testing::WriteText;

std::string GzipMember(const std::string& text) {
  z_stream stream = {};
  deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, text.size()) + 32, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

// One frame that states its window (at byte 5), in blocks of `block` bytes; 0: the library chooses.
std::string ZstdFrame(const std::string& text, bool checksum = true, size_t block = 0) {
  const std::unique_ptr<ZSTD_CCtx, size_t (*)(ZSTD_CCtx*)> context(ZSTD_createCCtx(), ZSTD_freeCCtx);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_checksumFlag, checksum ? 1 : 0);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_contentSizeFlag, 0);
  std::string out(ZSTD_compressBound(text.size()) + 1024, '\0');
  ZSTD_outBuffer to = {out.data(), out.size(), 0};
  for (size_t begin = 0; block > 0 && begin < text.size(); begin += block) {
    ZSTD_inBuffer from = {text.data() + begin, std::min(block, text.size() - begin), 0};
    ZSTD_compressStream2(context.get(), &to, &from, ZSTD_e_flush);
  }
  ZSTD_inBuffer rest = {text.data(), block > 0 ? 0 : text.size(), 0};
  ZSTD_compressStream2(context.get(), &to, &rest, ZSTD_e_end);
  out.resize(to.pos);
  return out;
}

std::string SkippableFrame() { return std::string("\x50\x2A\x4D\x18\x04\x00\x00\x00", 8) + "abcd"; }

// Reads as LineReader does: 256 KiB at a time.
absl::StatusOr<std::string> ReadAll(const std::string& path) {
  auto source = ByteSource::Open(path);
  if (!source.ok()) return source.status();
  std::string all, buffer(1 << 18, '\0');
  while (true) {
    const auto got = (*source)->Read(buffer.data(), static_cast<int64_t>(buffer.size()));
    if (!got.ok()) return got.status();
    if (*got == 0) return all;
    all.append(buffer, 0, static_cast<size_t>(*got));
  }
}

class CompressedText : public ::testing::Test {
 protected:
  absl::StatusOr<std::string> Decompress(const std::string& data, const std::string& name) {
    WriteText(folder_ / name, data);
    return ReadAll(folder_ / name);
  }
  // Expects DataLoss that names the file and `place`.
  void ExpectDamaged(const std::string& data, const std::string& name, const std::string& place) {
    const auto text = Decompress(data, name);
    EXPECT_EQ(text.status().code(), absl::StatusCode::kDataLoss) << name << ": " << place;
    EXPECT_THAT(std::string(text.status().message()), HasSubstr(folder_ / name));
    EXPECT_THAT(std::string(text.status().message()), HasSubstr(place));
  }
  // Checks rules that members and frames share.
  void ExpectStrict(const std::string& name, const std::function<std::string(const std::string&)>& member) {
    const std::string first = member("one\n"), second = member("two\n"), zeros(1000, '\0');
    const std::string end = "at byte " + std::to_string(first.size());
    EXPECT_EQ(*Decompress(first + second, name), "one\ntwo\n");
    EXPECT_EQ(*Decompress(first + member("") + second + member(""), name), "one\ntwo\n");
    EXPECT_EQ(*Decompress(first + second + zeros, name), "one\ntwo\n");
    for (size_t byte = 0; byte < 2; ++byte) {
      std::string bad = first + second;
      bad[first.size() + byte] = static_cast<char>(bad[first.size() + byte] ^ 0x10);
      ExpectDamaged(bad, name, "begins " + end);
    }
    const std::string behind = "at byte " + std::to_string(first.size() + zeros.size());
    ExpectDamaged(first + zeros + second, name, behind);
    ExpectDamaged(first + zeros + "x", name, behind);
    ExpectDamaged(first + "garbage", name, "begins " + end);
    ExpectDamaged(first + second.substr(0, 1), name, "begins " + end);
    for (size_t size = first.size() + 1; size < first.size() + second.size(); ++size) {
      ExpectDamaged((first + second).substr(0, size), name, "begins " + end);
    }
    ExpectDamaged("", name, "is empty");
    ExpectDamaged(zeros, name, "neither gzip nor Zstandard data nor text");
    EXPECT_EQ(*Decompress("plain text\n", name), "plain text\n");
  }
  TemporaryFolder folder_;
};

TEST_F(CompressedText, EveryMemberOfGzipIsReadOrItsPlaceNamed) {
  ExpectStrict("x.txt.gz", GzipMember);
  std::string bad = GzipMember("one\n");
  bad[bad.size() - 8] = static_cast<char>(bad[bad.size() - 8] ^ 1);
  ExpectDamaged(bad, "x.txt.gz", "incorrect data check");
}

TEST_F(CompressedText, EveryFrameOfZstandardIsReadOrItsPlaceNamed) {
  ExpectStrict("x.txt.zst", [](const std::string& text) { return ZstdFrame(text); });
  std::string bad = ZstdFrame("one\n");
  bad.back() = static_cast<char>(bad.back() ^ 1);
  ExpectDamaged(bad, "x.txt.zst", "checksum");
}

TEST_F(CompressedText, AFileThatIsCutWithinItsFirstBytesIsNoText) {
  const std::string gzip = GzipMember("one\n"), zstd = ZstdFrame("one\n"), skip = SkippableFrame();
  for (size_t size = 1; size < 4; ++size) {
    ExpectDamaged(gzip.substr(0, size), "x.txt.gz", size < 2 ? "the rest is missing" : "the file ends within");
    ExpectDamaged(zstd.substr(0, size), "x.txt.zst", "the rest is missing");
    ExpectDamaged(skip.substr(0, size), "x.txt.zst", "the rest is missing");
  }
  EXPECT_EQ(*Decompress("(", "x.txt"), "(");
  EXPECT_EQ(*Decompress("a", "x.txt.zst"), "a");
}

TEST_F(CompressedText, WithoutMemoryForADecoderThereIsAnError) {
  no_memory_for_zstd = true;
  const absl::Cleanup there_is_memory = [] { no_memory_for_zstd = false; };
  ExpectDamaged(ZstdFrame("one\n"), "x.zst", "there is no memory for its decoder");
}

TEST_F(CompressedText, FramesThatAreToBeSkippedMayStandAnywhere) {
  const std::string skip = SkippableFrame(), one = ZstdFrame("one\n"), two = ZstdFrame("two\n");
  EXPECT_EQ(*Decompress(skip + one + skip + two + skip, "x.zst"), "one\ntwo\n");
  EXPECT_EQ(*Decompress(skip, "x.zst"), "");
  ExpectDamaged(skip.substr(0, 10), "x.zst", "begins at byte 0");
  ExpectDamaged(one + skip.substr(0, 10), "x.zst", "begins at byte " + std::to_string(one.size()));
}

TEST_F(CompressedText, TheLargestWindowIsAccepted) {
  std::string frame = ZstdFrame("a text\n");
  frame[5] = static_cast<char>((31 - 10) << 3);  // RFC 8878, 3.1.1.1.2
  EXPECT_EQ(*Decompress(frame, "x.zst"), "a text\n");
  frame[5] = static_cast<char>((34 - 10) << 3);
  ExpectDamaged(frame, "x.zst", "compress the text again without --long");
}

TEST_F(CompressedText, AFrameThatNeedsADictionaryIsNotCalledDamaged) {
  // One raw block of "abc"; the header names the dictionary 7 (RFC 8878, 3.1.1.1).
  const std::string frame(
      "\x28\xB5\x2F\xFD\x21\x07\x03\x19\x00\x00"
      "abc",
      13);
  const std::string one = ZstdFrame("one\n");
  for (const std::string& before : {std::string(), one}) {
    const auto text = Decompress(before + frame, "x.zst");
    EXPECT_EQ(text.status().code(), absl::StatusCode::kDataLoss);
    EXPECT_EQ(std::string(text.status().message()),
              folder_ / "x.zst" + ": the Zstandard data that begin at byte " + std::to_string(before.size()) +
                  " were compressed with a dictionary (zstd -D); compress them again without one");
  }
}

// The decoder may hold back the end of the text after all of the file was read.
TEST_F(CompressedText, BlocksOfAnySizeAreReadToTheirEnd) {
  std::string text;
  for (uint32_t i = 0; text.size() < 300'000; ++i) text += std::to_string(i * 2654435761U) + "\n";
  text.resize(300'000);
  const auto read = Decompress(ZstdFrame(text, /*checksum=*/false, 100'000), "x.zst");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, text);
}

TEST_F(CompressedText, PipesAreReadAsFilesAre) {
  for (const auto& [name, data] : {std::pair<std::string, std::string>{"p.txt", "a\nb\n"},
                                   {"p.txt.gz", GzipMember("a\n") + GzipMember("b\n")},
                                   {"p.txt.zst", SkippableFrame() + ZstdFrame("a\nb\n")}}) {
    const std::string path = folder_ / name;
    ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
    std::thread writer([&path, &data = data] { WriteText(path, data); });
    EXPECT_EQ(*ReadAll(path), "a\nb\n") << name;
    writer.join();
  }
}

TEST_F(CompressedText, AFileThatIsCutWhileItIsReadIsNoShorterText) {
  const std::string path = folder_ / "x.txt";
  WriteText(path, std::string(100'000, 'x'));
  const auto source = ByteSource::Open(path);
  char buffer[1000];
  ASSERT_EQ(*(*source)->Read(buffer, 1000), 4);
  ASSERT_EQ(*(*source)->Read(buffer, 1000), 1000);
  std::filesystem::resize_file(path, 500);
  EXPECT_THAT(std::string((*source)->Read(buffer, 1000).status().message()), HasSubstr("cut while it was read"));
}

TEST_F(CompressedText, ALineThatASmallFileStatesToBeHugeIsNamed) {
  std::string data = GzipMember("short\n");
  const std::string part = GzipMember(std::string(1 << 22, 'a'));
  for (int64_t size = 0; size <= kMostLineBytes; size += 1 << 22) data += part;
  WriteText(folder_ / "bomb.jsonl.gz", data);
  const auto reader = LineReader::Open(folder_ / "bomb.jsonl.gz");
  std::string line;
  ASSERT_TRUE(*(*reader)->Next(line));
  const absl::Status status = (*reader)->Next(line).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("bomb.jsonl.gz:2: the line has more than 134217728 bytes"));
  EXPECT_LE(static_cast<int64_t>(line.size()), kMostLineBytes);
}

}  // namespace
}  // namespace isthmus
