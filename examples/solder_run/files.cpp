#include "files.h"

#include <fcntl.h>
#include <poll.h>
#include <solder/solder.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <vector>

namespace solder_run {

std::string read_text(const std::string& path, const std::string& hint) {
  constexpr size_t kMaxBytes = size_t{2} << 20;
  // O_NONBLOCK: a named pipe without a writer must not hold the program up.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  int error = fd < 0 ? errno : 0;
  std::string text;
  std::vector<char> piece(1 << 16);
  while (error == 0 && text.size() < kMaxBytes) {
    const ssize_t got = ::read(fd, piece.data(), piece.size());
    if (got == 0) break;
    if (got > 0) {
      text.append(piece.data(), static_cast<size_t>(got));
    } else if (errno == EAGAIN) {
      pollfd readable{.fd = fd, .events = POLLIN, .revents = 0};
      ::poll(&readable, 1, -1);
    } else if (errno != EINTR) {
      error = errno;
    }
  }
  if (fd >= 0) ::close(fd);
  SOLDER_REQUIRE(error == 0, io, path, ": ", std::strerror(error), hint);
  return text;
}

void write_text(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  SOLDER_REQUIRE(file.good(), io, path, ": ", std::strerror(errno));
}

}  // namespace solder_run
