#include "launch/commands/encode_corpus.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "runtime/data/document_reader.h"
#include "runtime/data/token_shard_writer.h"
#include "runtime/data/tokenizer.h"
#include "runtime/durable_file.h"
#include "runtime/output_target.h"
#include "runtime/parallel_for.h"
#include "runtime/philox.h"
#include "runtime/status.h"

namespace isthmus {
namespace {

// Writes the shards of one part of the corpus, one after another.
class ShardSequence {
 public:
  ShardSequence(std::string folder, const Tokenizer& tokenizer, int64_t shard_tokens)
      : folder_(std::move(folder)), tokenizer_(tokenizer), shard_tokens_(shard_tokens) {}

  absl::Status Add(absl::Span<const int32_t> tokens) {
    if (writer_ == nullptr) {
      ISTHMUS_RETURN_IF_ERROR(MakeFolder(folder_));
      ISTHMUS_ASSIGN_OR_RETURN(writer_, TokenShardWriter::Create(absl::StrFormat("%s/%05d.ids", folder_, shards_++),
                                                                 tokenizer_.vocabulary(), tokenizer_.fingerprint()));
    }
    tokens_ += static_cast<int64_t>(tokens.size());
    return writer_->AddTokens(tokens);
  }
  absl::Status EndDocument() {
    const int32_t end = tokenizer_.end_of_text();
    ISTHMUS_RETURN_IF_ERROR(Add(absl::MakeConstSpan(&end, 1)));
    ISTHMUS_RETURN_IF_ERROR(writer_->EndDocument());
    ++documents_;
    return writer_->tokens() >= shard_tokens_ ? Finish() : absl::OkStatus();
  }
  absl::Status Finish() {
    if (writer_ == nullptr) return absl::OkStatus();
    ISTHMUS_RETURN_IF_ERROR(writer_->Finish());
    writer_.reset();
    return absl::OkStatus();
  }
  int64_t tokens() const { return tokens_; }
  int64_t documents() const { return documents_; }

 private:
  std::string folder_;
  const Tokenizer& tokenizer_;
  int64_t shard_tokens_;
  int shards_ = 0;
  int64_t tokens_ = 0, documents_ = 0;
  std::unique_ptr<TokenShardWriter> writer_;
};

// Encodes many pieces of text at a time on all threads, and hands documents on in their order.
class ParallelEncoder {
 public:
  ParallelEncoder(const Tokenizer& tokenizer, ShardSequence& training, ShardSequence& validation, double fraction)
      : tokenizer_(tokenizer), training_(training), validation_(validation), fraction_(fraction) {}

  absl::Status Append(const std::string& line) {
    if (pieces_.empty() || pieces_.back().ends_document || pieces_.back().text.size() > kPieceBytes) {
      if (pieces_.size() == kPieces || bytes_ > kMostBytes) ISTHMUS_RETURN_IF_ERROR(Flush());
      pieces_.emplace_back();
    }
    pieces_.back().text += line;
    bytes_ += line.size();
    return absl::OkStatus();
  }
  absl::Status EndOfDocument() {
    // A document without text has no piece of its own.
    if (!pieces_.empty()) pieces_.back().ends_document = true;
    return absl::OkStatus();
  }

  // After an error nothing is left to be flushed.
  absl::Status Flush() {
    bytes_ = 0;
    std::vector<Piece> pieces = std::exchange(pieces_, {});
    std::vector<absl::Status> statuses(pieces.size());
    ParallelFor(static_cast<int64_t>(pieces.size()), 1, [&](int64_t begin, int64_t end, int) {
      for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
        statuses[i] = tokenizer_.Encode(pieces[i].text, pieces[i].ids);
      }
    });
    for (size_t i = 0; i < pieces.size(); ++i) {
      ISTHMUS_RETURN_IF_ERROR(statuses[i]);
      const bool validation =
          Philox::Uniform(0, RandomPurpose::kValidationSplit, 1, static_cast<uint64_t>(documents_)) < fraction_;
      ShardSequence& part = validation ? validation_ : training_;
      ISTHMUS_RETURN_IF_ERROR(part.Add(pieces[i].ids));
      if (!pieces[i].ends_document) continue;
      ISTHMUS_RETURN_IF_ERROR(part.EndDocument());
      ++documents_;
    }
    return absl::OkStatus();
  }

 private:
  // The bytes are limited as well, because lines may be long.
  static constexpr size_t kPieceBytes = 1 << 15, kPieces = 4096, kMostBytes = 1 << 28;
  struct Piece {
    std::string text;
    bool ends_document = false;
    std::vector<int32_t> ids;
  };

  const Tokenizer& tokenizer_;
  ShardSequence& training_;
  ShardSequence& validation_;
  double fraction_;
  int64_t documents_ = 0;
  std::vector<Piece> pieces_;
  size_t bytes_ = 0;  // in pieces_
};

// The shards are written here until all are complete. The folder lies beside one that does not exist yet, so that the
// folder appears whole. It lies inside an existing folder, which may be another disk's and then can't be replaced.
class StagingFolder {
 public:
  // The links of `folder` were followed. Errors: AlreadyExists if it holds something; by errno.
  static absl::StatusOr<std::unique_ptr<StagingFolder>> Make(std::string folder) {
    std::error_code error;
    const bool there = std::filesystem::exists(std::filesystem::symlink_status(folder, error));
    auto staging = std::make_unique<StagingFolder>();
    staging->there_ = there;
    if (there) ISTHMUS_RETURN_IF_ERROR(CheckEmpty(folder));
    const std::string stem = absl::StrCat(there ? folder + "/encoding" : ShortName(folder), ".", getpid());
    staging->folder_ = std::move(folder);
    ISTHMUS_RETURN_IF_ERROR(MakeFolder(FolderOf(stem)));
    // In a container other processes had the same number before. Their files do not belong to this process.
    std::string path = stem + ".tmp";
    for (int i = 2; mkdir(path.c_str(), 0777) != 0; ++i) {
      if (errno != EEXIST) return FileError(path, "can't create the folder", errno);
      path = absl::StrCat(stem, "-", i, ".tmp");
    }
    staging->path_ = std::move(path);
    if (!there) ISTHMUS_RETURN_IF_ERROR(TryRename(staging->path_));
    return staging;
  }
  StagingFolder() = default;
  // Removes an incomplete result.
  ~StagingFolder() {
    if (!path_.empty()) RemoveUnfinished();
  }
  StagingFolder(const StagingFolder&) = delete;
  StagingFolder& operator=(const StagingFolder&) = delete;
  const std::string& path() const { return path_; }

  // Keeps the shards that were finished before `failure`. Returns it with the place where they are. Without any such
  // shard nothing remains.
  absl::Status Leave(const absl::Status& failure) {
    if (!RemoveUnfinished()) return failure;
    return absl::Status(failure.code(),
                        absl::StrCat(failure.message(), "; the finished shards stay in ", std::exchange(path_, "")));
  }

  // Gives all files their names. Errors: by errno; complete shards then stay, and the message says where.
  absl::Status Complete() {
    const std::string path = std::exchange(path_, "");
    const auto failed = [&](int error) {
      return FileError(folder_, absl::StrCat("can't take the complete shards, which stay in ", path), error);
    };
    // The training part comes last: a start without it says at once that something is missing.
    for (const char* part : {"/validation", "/train"}) {
      if (!there_ || access((path + part).c_str(), F_OK) != 0) continue;
      if (std::rename((path + part).c_str(), (folder_ + part).c_str()) != 0) return failed(errno);
    }
    if (there_) {
      rmdir(path.c_str());
      return SyncFolder(folder_);
    }
    if (std::rename(path.c_str(), folder_.c_str()) != 0) return failed(errno);
    return SyncFolder(FolderOf(folder_));
  }

 private:
  // Leaves room for the part by which the staging folder's name is longer.
  static std::string ShortName(const std::string& folder) {
    constexpr size_t kLongest = 200;
    const std::string name = std::filesystem::path(folder).filename().string();
    return absl::StrCat(FolderOf(folder), "/", name.substr(0, kLongest));
  }

  // Renames a folder over the empty one at `path`, as the complete shards are renamed at the end. Some file systems
  // allow new names but no renames, and so do folders that may only grow (chattr +a).
  static absl::Status TryRename(const std::string& path) {
    const std::string trial = path + ".trial";
    if (mkdir(trial.c_str(), 0777) != 0) return FileError(trial, "can't create the folder", errno);
    if (std::rename(trial.c_str(), path.c_str()) == 0) return absl::OkStatus();
    const int error = errno;
    rmdir(trial.c_str());
    return FileError(FolderOf(path), "no folder can be renamed there, as complete shards are; choose another --out",
                     error);
  }

  static absl::Status CheckEmpty(const std::string& folder) {
    std::error_code error;
    for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
         entry.increment(error)) {
      const std::string name = entry->path().filename().string();
      // The file system makes this folder, and it stays.
      if (name == "lost+found") continue;
      const bool staging = absl::StartsWith(name, "encoding.") && absl::EndsWith(name, ".tmp");
      return absl::AlreadyExistsError(absl::StrCat(
          folder, ": is not empty, it holds ", name,
          staging ? ", the shards of an encoding that failed or still runs; choose another folder or move them away"
                  : "; choose another folder for the shards or remove it"));
    }
    if (error) return FileError(folder, "can't be the folder of the shards", error.value());
    return absl::OkStatus();
  }

  // Keeps the files that have got their name. If there are none, the folder is removed, too, and the result is false.
  bool RemoveUnfinished() const {
    std::error_code error;
    bool finished = false;
    for (const char* part : {"/train", "/validation"}) {
      for (std::filesystem::directory_iterator entry(path_ + part, error), end; !error && entry != end;
           entry.increment(error)) {
        std::error_code ignored;
        if (entry->path().extension() == ".tmp") {
          std::filesystem::remove(entry->path(), ignored);
        } else {
          finished = true;
        }
      }
      rmdir((path_ + part).c_str());  // where it is empty
    }
    if (!finished) std::filesystem::remove_all(path_, error);
    return finished;
  }

  std::string folder_, path_;
  bool there_ = false;
};

// Removes slashes and dots at the end, which name the same folder.
std::string WithoutTail(std::string folder) {
  while (folder.size() > 1) {
    if (absl::EndsWith(folder, "/.")) {
      folder.resize(folder.size() - 2);
      if (folder.empty()) folder = "/";
    } else if (absl::EndsWith(folder, "/")) {
      folder.pop_back();
    } else {
      break;
    }
  }
  return folder;
}

// Returns where the folder is or will be: without trailing slashes, and with symbolic links followed, even to nothing.
absl::StatusOr<std::string> ResolveFolder(const std::string& given) {
  if (given.empty()) return absl::InvalidArgumentError("--out: found an empty path; name a folder");
  std::error_code error;
  std::string folder = WithoutTail(given);
  for (int links = 0; std::filesystem::is_symlink(folder, error); ++links) {
    constexpr int kMostLinks = 40;  // as Linux has it
    if (links == kMostLinks) return FileError(given, "can't follow the link", ELOOP);
    const auto next = std::filesystem::read_symlink(folder, error);
    if (error) return FileError(given, "can't read the link", error.value());
    folder = WithoutTail((next.is_absolute() ? next : FolderOf(folder) / next).string());
  }
  if (std::filesystem::path(folder).filename() == "..") {
    return absl::InvalidArgumentError(
        absl::StrCat("--out: ", given, " ends with .., which names no new folder; give the folder's own name"));
  }
  return folder;
}

// Writes folder/train and folder/validation.
absl::StatusOr<EncodedCorpus> WriteShards(const CorpusEncoding& encoding, const Tokenizer& tokenizer,
                                          const std::string& folder) {
  const std::vector<std::string>& files = encoding.files;
  ShardSequence training(folder + "/train", tokenizer, encoding.shard_tokens);
  ShardSequence validation(folder + "/validation", tokenizer, encoding.shard_tokens);
  ParallelEncoder encoder(tokenizer, training, validation, encoding.validation_fraction);
  const absl::Status read = ReadDocuments(files, encoding.text_field,
                                          {.visit = [&](const std::string& line) { return encoder.Append(line); },
                                           .end_of_document = [&] { return encoder.EndOfDocument(); }});
  // This also happens if the text can't be read any further: the documents read may finish shards, and these stay.
  const absl::Status written = encoder.Flush();
  ISTHMUS_RETURN_IF_ERROR(read);
  ISTHMUS_RETURN_IF_ERROR(written);
  if (training.documents() == 0) {
    return absl::InvalidArgumentError(absl::StrCat(files.front(), files.size() > 1 ? ", …" : "",
                                                   ": no text to train on; the corpus is empty or all of it fell to "
                                                   "validation"));
  }
  ISTHMUS_RETURN_IF_ERROR(training.Finish());
  ISTHMUS_RETURN_IF_ERROR(validation.Finish());
  return EncodedCorpus{.training_tokens = training.tokens(),
                       .validation_tokens = validation.tokens(),
                       .training_documents = training.documents(),
                       .validation_documents = validation.documents()};
}

}  // namespace

absl::StatusOr<EncodedCorpus> EncodeCorpus(const CorpusEncoding& encoding) {
  ISTHMUS_ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::Load(encoding.tokenizer));
  ISTHMUS_ASSIGN_OR_RETURN(std::string folder, ResolveFolder(encoding.folder));
  ISTHMUS_ASSIGN_OR_RETURN(const auto staging, StagingFolder::Make(std::move(folder)));
  const absl::StatusOr<EncodedCorpus> corpus = WriteShards(encoding, *tokenizer, staging->path());
  if (!corpus.ok()) return staging->Leave(corpus.status());
  ISTHMUS_RETURN_IF_ERROR(staging->Complete());
  return corpus;
}

}  // namespace isthmus
