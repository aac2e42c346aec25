#include "runtime/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <system_error>

#include "runtime/check.h"

namespace solder {
namespace {

constexpr int64_t kMaxTransferBytes = int64_t{1} << 30;  // Linux moves less than 2 GiB per call

std::string system_reason(int error) { return std::generic_category().message(error); }

}  // namespace

FileSource::FileSource(const std::string& path) {
  name_ = path;
  // O_NONBLOCK: opening a pipe that nobody writes to would block; on a regular file it changes nothing.
  fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  SOLDER_REQUIRE(fd_ >= 0, io, path, ": cannot be opened: ", system_reason(errno));
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
    const size_t want_bytes = static_cast<size_t>(std::min(count_bytes, kMaxTransferBytes));
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
  num_bytes_ = static_cast<int64_t>(bytes.size());
}

void MemorySource::read(int64_t offset_bytes, void* out, int64_t count_bytes) const {
  SOLDER_REQUIRE(offset_bytes >= 0 && count_bytes >= 0 && offset_bytes <= num_bytes_ &&
                     count_bytes <= num_bytes_ - offset_bytes,
                 io, name_, ": ", count_bytes, " bytes at byte ", offset_bytes, " end beyond its ",
                 num_bytes_, " bytes");
  if (count_bytes > 0) std::memcpy(out, bytes_.data() + offset_bytes, static_cast<size_t>(count_bytes));
}

OutputFile::OutputFile(const std::string& path) : path_(path) {
  struct stat info {};
  SOLDER_REQUIRE(::stat(path.c_str(), &info) != 0 || S_ISREG(info.st_mode), io, path,
                 ": exists and is not a regular file, so it cannot be replaced");
  // O_EXCL gives every writer its own file, threads and leftovers of a killed process included.
  for (int attempt = 0; fd_ < 0 && attempt < 100; ++attempt) {
    temporary_path_ = str(path, ".", ::getpid(), ".", attempt, ".tmp");
    fd_ = ::open(temporary_path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd_ < 0 && errno != EEXIST) break;
  }
  SOLDER_REQUIRE(fd_ >= 0, io, path, ": cannot be created: ", system_reason(errno));
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_path_.empty()) ::unlink(temporary_path_.c_str());
}

void OutputFile::write(const void* data, int64_t count_bytes) {
  const char* from = static_cast<const char*>(data);
  while (count_bytes > 0) {
    const ssize_t put_bytes =
        ::write(fd_, from, static_cast<size_t>(std::min(count_bytes, kMaxTransferBytes)));
    if (put_bytes < 0 && errno == EINTR) continue;
    SOLDER_REQUIRE(put_bytes > 0, io, path_,
                   ": cannot be written: ", system_reason(put_bytes < 0 ? errno : ENOSPC));
    from += put_bytes;
    count_bytes -= put_bytes;
  }
}

void OutputFile::commit() {
  // Some file systems report a full disk only here. The descriptor is gone whatever close() returns.
  const int closed = ::close(fd_);
  fd_ = -1;
  SOLDER_REQUIRE(closed == 0, io, path_, ": cannot be written: ", system_reason(errno));
  SOLDER_REQUIRE(std::rename(temporary_path_.c_str(), path_.c_str()) == 0, io, path_,
                 ": cannot be replaced: ", system_reason(errno));
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
