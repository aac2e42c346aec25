#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "runtime/shape.h"

struct stat;

namespace solder {

/// The bytes a file format is read from. What a file claims is checked against num_bytes() before it is
/// believed.
class ByteSource {
 public:
  ByteSource() = default;
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;
  virtual ~ByteSource() = default;

  const std::string& name() const { return name_; }  ///< what messages call it: the path
  int64_t num_bytes() const { return num_bytes_; }

  /// Copies bytes [offset_bytes, offset_bytes + count_bytes) to `out`. Throws Error(io) when they are not
  /// there or cannot be read.
  virtual void read(int64_t offset_bytes, void* out, int64_t count_bytes) const = 0;

 protected:
  std::string name_;
  int64_t num_bytes_ = 0;
};

/// A regular file, open for reading. Safe to use when another process truncates it: read() then throws.
class FileSource final : public ByteSource {
 public:
  /// Throws Error(io) with the system's reason; pipes and directories are refused (they have no size to
  /// check).
  explicit FileSource(const std::string& path);
  ~FileSource() override;
  void read(int64_t offset_bytes, void* out, int64_t count_bytes) const override;

 private:
  int fd_ = -1;
};

/// Bytes in memory, which the caller keeps alive.
class MemorySource final : public ByteSource {
 public:
  MemorySource(std::span<const std::byte> bytes, const std::string& name);
  void read(int64_t offset_bytes, void* out, int64_t count_bytes) const override;

 private:
  std::span<const std::byte> bytes_;
};

/// A file that is written under a temporary name in its folder, and in commit() replaces what `path` leads
/// to. Destroyed before that it leaves no trace, so a failed write never leaves half a file or damages an old
/// one. save_npy() says what stays of the old one, and what is written directly.
class OutputFile {
 public:
  /// Throws Error(io) with the system's reason.
  explicit OutputFile(const std::string& path);
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile();

  void write(const void* data, int64_t count_bytes);  ///< Error(io) unless every byte is taken
  void commit();                                      ///< Error(io) unless closed and renamed

 private:
  OutputFile() = default;
  void open_temporary(const struct stat* old);

  std::string path_, target_, temporary_path_;  // the last is empty when there is nothing to replace
  int fd_ = -1;
};

/// More axes than this are refused when a file is read or written; numpy's own limit.
inline constexpr size_t kMaxFileRank = 64;

/// Bytes that a file claims for `shape` with elements of `bits_per_elem`. Throws Error(io), starting with
/// `where`, when they exceed 2^63 - 1 or are not whole. Extents must not be negative.
int64_t claimed_bytes(const Shape& shape, int64_t bits_per_elem, const std::string& where);

}  // namespace solder
