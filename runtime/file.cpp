#include "runtime/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <system_error>

#include "runtime/check.h"
#include "runtime/text_reader.h"

namespace solder {
namespace {

constexpr int64_t kMaxTransferBytes = int64_t{1} << 30;  // Linux moves less than 2 GiB per call

std::string system_reason(int error) { return std::generic_category().message(error); }

// After a system call: Error with its reason unless `succeeded`.
void require(bool succeeded, const std::string& path, const char* what) {
  SOLDER_REQUIRE(succeeded, io, path, ": ", what, ": ", system_reason(errno));
}

constexpr const char *kNotWritten = "cannot be written", *kNotReplaced = "cannot be replaced";
constexpr std::string_view kDescriptors = "/proc/self/fd/";

// The system would take the part before a zero for the path.
void require_path(const std::string& path) {
  SOLDER_REQUIRE(path.find('\0') == std::string::npos, io, quote_name(path), ": a path has no zero byte");
}

// What `path` leads to, there or not; a name of one of this process's descriptors is left as it is.
std::string follow_links(std::string path) {
  constexpr int kMaxLinks = 40;  // as in Linux
  std::array<char, PATH_MAX> text;
  for (int links = 0; links < kMaxLinks; ++links) {
    if (path.starts_with("/dev/fd/")) path.replace(0, 8, kDescriptors);
    if (path.starts_with(kDescriptors)) break;
    const ssize_t size = ::readlink(path.c_str(), text.data(), text.size());
    if (size < 0) {
      require(errno == EINVAL || errno == ENOENT, path, "is a link that cannot be read");
      return path;  // no link, or nothing yet
    }
    const std::string link(text.data(), size);
    path = link.starts_with('/') ? link : path.substr(0, path.rfind('/') + 1).append(link);
  }
  return path;
}

// ::write(); a pipe that nobody reads is EPIPE, and a file beyond the limit of this process EFBIG, and no signal that
// ends the program.
ssize_t write_unsignalled(int fd, const void* data, size_t count_bytes) {
  constexpr timespec kNow{};
  sigset_t signals, before;
  sigemptyset(&signals);
  sigaddset(&signals, SIGPIPE);
  sigaddset(&signals, SIGXFSZ);
  pthread_sigmask(SIG_BLOCK, &signals, &before);
  const ssize_t put_bytes = ::write(fd, data, count_bytes);
  const int error = errno;
  if (put_bytes < 0 && (error == EPIPE || error == EFBIG)) sigtimedwait(&signals, nullptr, &kNow);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = error;
  return put_bytes;
}

}  // namespace

FileSource::FileSource(const std::string& path) {
  require_path(path);
  name_ = path;
  // O_NONBLOCK: opening a pipe that nobody writes to would block; on a regular file it changes nothing.
  fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  require(fd_ >= 0, path, "cannot be opened");
  struct stat info {};
  const int error = ::fstat(fd_, &info) == 0 ? 0 : errno;
  if (error != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd_);  // the destructor of a half-constructed object does not run
    fail(ErrorKind::io, str(path, ": ", error != 0 ? system_reason(error) : "not a regular file"));
  }
  num_bytes_ = info.st_size;
}

FileSource::~FileSource() { ::close(fd_); }

void FileSource::read(int64_t offset_bytes, void* out, int64_t count_bytes) const {
  char* to = static_cast<char*>(out);
  while (count_bytes > 0) {
    const size_t want_bytes = std::min(count_bytes, kMaxTransferBytes);
    const ssize_t got_bytes = ::pread(fd_, to, want_bytes, offset_bytes);
    if (got_bytes < 0 && errno == EINTR) continue;
    SOLDER_REQUIRE(got_bytes >= 0, io, name_, ": reading at byte ", offset_bytes, ": ", system_reason(errno));
    SOLDER_REQUIRE(got_bytes > 0, io, name_, ": ends at byte ", offset_bytes, ", ", count_bytes,
                   " bytes before the end of what is being read: it was truncated meanwhile");
    to += got_bytes;
    offset_bytes += got_bytes;
    count_bytes -= got_bytes;
  }
}

MemorySource::MemorySource(std::span<const std::byte> bytes, const std::string& name) : bytes_(bytes) {
  name_ = name;
  num_bytes_ = std::ssize(bytes);
}

void MemorySource::read(int64_t offset_bytes, void* out, int64_t count_bytes) const {
  SOLDER_REQUIRE(offset_bytes >= 0 && count_bytes >= 0 && offset_bytes <= num_bytes_ &&
                     count_bytes <= num_bytes_ - offset_bytes,
                 io, name_, ": ", count_bytes, " bytes at byte ", offset_bytes, " end beyond its ",
                 num_bytes_, " bytes");
  if (count_bytes > 0) std::memcpy(out, bytes_.data() + offset_bytes, count_bytes);
}

// Delegates, so that the destructor runs when it throws.
OutputFile::OutputFile(const std::string& path) : OutputFile() {
  require_path(path);
  path_ = path;
  struct stat old {};
  const bool exists = ::stat(path.c_str(), &old) == 0;
  require(exists || errno == ENOENT, path, kNotWritten);
  const bool is_file = !exists || S_ISREG(old.st_mode);
  if (is_file) target_ = follow_links(path);
  if (!is_file) {
    fd_ = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY);
  } else if (target_.starts_with(kDescriptors)) {  // opened anew it would have a position of its own
    fd_ = ::fcntl(std::atoi(target_.c_str() + kDescriptors.size()), F_DUPFD_CLOEXEC, 0);
  } else {
    require(!exists || ::euidaccess(target_.c_str(), W_OK) == 0, path, kNotReplaced);
    open_temporary(exists ? &old : nullptr);
  }
  require(fd_ >= 0, path, kNotWritten);
}

// In the target's folder, with the owner and mode of the `old` file. Another user's becomes this one's where
// the system insists.
void OutputFile::open_temporary(const struct stat* old) {
  constexpr int kMaxAttempts = 10'000;
  const std::string folder = target_.substr(0, target_.rfind('/') + 1);
  // O_EXCL gives every writer its own file, threads and leftovers of a killed process included.
  for (int attempt = 0; fd_ < 0 && attempt < kMaxAttempts; ++attempt) {
    std::string name = str(folder, ".solder.", ::getpid(), ".", attempt, ".tmp");
    fd_ = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, old ? old->st_mode & 0777 : 0666);
    if (fd_ >= 0)
      temporary_path_ = std::move(name);
    else if (errno != EEXIST)
      break;
  }
  require(fd_ >= 0, path_, "a new file cannot be made in its folder");
  if (old == nullptr) return;
  struct stat made {};
  require(::fstat(fd_, &made) == 0, path_, kNotWritten);
  static_cast<void>(::fchown(fd_, old->st_uid, old->st_gid) == 0 ||
                    ::fchown(fd_, made.st_uid, old->st_gid) == 0);
  require(((made.st_mode ^ old->st_mode) & 0777) == 0 || ::fchmod(fd_, old->st_mode & 0777) == 0, path_,
          "the new file cannot have the old one's mode");
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_path_.empty()) ::unlink(temporary_path_.c_str());
}

void OutputFile::write(const void* data, int64_t count_bytes) {
  const char* from = static_cast<const char*>(data);
  while (count_bytes > 0) {
    const ssize_t put_bytes = write_unsignalled(fd_, from, std::min(count_bytes, kMaxTransferBytes));
    if (put_bytes < 0 && errno == EINTR) continue;
    if (put_bytes == 0) errno = ENOSPC;
    require(put_bytes > 0, path_, kNotWritten);
    from += put_bytes;
    count_bytes -= put_bytes;
  }
}

void OutputFile::commit() {
  // Some file systems report a full disk only here. The descriptor is gone whatever close() returns.
  const int closed = ::close(fd_);
  fd_ = -1;
  require(closed == 0, path_, kNotWritten);
  if (temporary_path_.empty()) return;
  require(std::rename(temporary_path_.c_str(), target_.c_str()) == 0, path_, kNotReplaced);
  temporary_path_.clear();
}

int64_t claimed_bytes(const Shape& shape, int64_t bits_per_elem, const std::string& where) {
  // Extents of 0 are left out of the product, as in num_elements(): what passes here passes there.
  int64_t elems = 1;
  bool overflow = false;
  bool empty = false;
  for (const int64_t extent : shape) {
    if (extent == 0)
      empty = true;
    else
      overflow |= __builtin_mul_overflow(elems, extent, &elems);
  }
  int64_t bits = 0;
  overflow |= __builtin_mul_overflow(elems, bits_per_elem, &bits);
  SOLDER_REQUIRE(!overflow, io, where, ": the size of shape ", to_string(shape), " overflows 2^63 - 1");
  if (empty) return 0;
  SOLDER_REQUIRE(bits % 8 == 0, io, where, ": shape ", to_string(shape), " with elements of ", bits_per_elem,
                 " bits does not fill whole bytes");
  return bits / 8;
}

}  // namespace solder
