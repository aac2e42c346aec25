// Where files are read from and what saving does to what is there: links, modes, pipes, full disks.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <thread>
#include <utility>

#include "runtime/file.h"
#include "runtime/npy.h"
#include "tests/support/file_testing.h"

namespace solder {
using namespace file_testing;

namespace {

using std::string_literals::operator""s;
using std::string_view_literals::operator""sv;

void save(const std::string& path, std::string_view bytes) {
  OutputFile file(path);
  file.write(bytes.data(), std::ssize(bytes));
  file.commit();
}

struct stat status_of(const std::string& path) {
  struct stat status {};
  REQUIRE(::lstat(path.c_str(), &status) == 0);
  return status;
}

unsigned mode_of(const std::string& path) { return status_of(path).st_mode & 07777u; }

void make_link(const std::string& to, const std::string& path) {
  REQUIRE(::symlink(to.c_str(), path.c_str()) == 0);
}

// A user to whom modes apply, as they do not to root, and who breaks nothing outside `folder`.
class PlainUser {
 public:
  explicit PlainUser(const std::string& folder) {
    if (!is_root_) return;
    REQUIRE(::chown(folder.c_str(), 65534, 65534) == 0);
    REQUIRE(::seteuid(65534) == 0);
  }
  ~PlainUser() {
    if (is_root_) static_cast<void>(!::seteuid(0));
  }

 private:
  const bool is_root_ = ::geteuid() == 0;
};

// Descriptor 1 is `fd` meanwhile.
class StandardOutput {
 public:
  explicit StandardOutput(int fd) {
    std::fflush(stdout);
    saved_ = ::dup(1);
    ::dup2(fd, 1);
    ::close(fd);
  }
  ~StandardOutput() {
    ::dup2(saved_, 1);
    ::close(saved_);
  }

 private:
  int saved_ = -1;
};

}  // namespace

TEST_CASE("file: what is no regular file is not read") {
  const TempFolder folder;
  check_error(ErrorKind::io, {"no.npy", "No such file"}, [&] { load_npy(folder.path("no.npy")); });
  check_error(ErrorKind::io, {"not a regular file"}, [&] { load_npy(folder.path("")); });
  check_error(ErrorKind::io, {"/dev/null", "not a regular file"}, [] { load_npy("/dev/null"); });
  REQUIRE(::mkfifo(folder.path("pipe").c_str(), 0600) == 0);
  check_error(ErrorKind::io, {"pipe", "not a regular file"}, [&] { load_npy(folder.path("pipe")); });
  check_error(ErrorKind::io, {"zero byte"}, [] { load_npy(std::string("/dev/null\0.npy", 14)); });
  make_link("loop", folder.path("loop"));
  check_error(ErrorKind::io, {"loop", "symbolic links"}, [&] { load_npy(folder.path("loop")); });
}

TEST_CASE("file: a file that shrinks while it is read, and reads out of range") {
  const TempFolder folder;
  const std::string path = folder.path("shrinks");
  write_file(path, "0123456789");
  const FileSource source(path);
  CHECK(source.num_bytes() == 10);
  char bytes[10] = {};
  source.read(3, bytes, 4);
  CHECK(std::string_view(bytes, 5) == "3456\0"sv);
  REQUIRE(::truncate(path.c_str(), 5) == 0);
  check_error(ErrorKind::io, {"shrinks", "ends at byte 5", "truncated meanwhile"},
              [&] { source.read(0, bytes, 10); });

  const MemorySource memory(as_bytes("0123456789"sv), "memory");
  memory.read(8, bytes, 2);
  CHECK(bytes[1] == '9');
  memory.read(10, bytes, 0);
  const std::pair<int64_t, int64_t> outside[] = {{9, 2}, {11, 0}, {-1, 1}, {0, -1}, {INT64_MAX, INT64_MAX}};
  for (const auto& pair : outside) {
    const auto& offset_bytes = pair.first;
    const auto& count_bytes = pair.second;
    check_error(ErrorKind::io, {"memory", "10 bytes"},
                [&] { memory.read(offset_bytes, bytes, count_bytes); });
  }
}

TEST_CASE("file: a write that fails is no signal, and leaves the old file and nothing else") {
  const TempFolder folder;
  const std::string path = folder.path("a.npy");
  write_file(path, "old");

  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const rlimit small{.rlim_cur = 64 << 10, .rlim_max = before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  check_error(ErrorKind::io, {"a.npy", "File too large"},
              [&] { OutputFile(path).write(std::string(1 << 20, 'x').data(), 1 << 20); });
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);

  sigset_t pending;
  REQUIRE(::sigpending(&pending) == 0);
  CHECK(::sigismember(&pending, SIGXFSZ) == 0);
  CHECK(read_file(path) == "old");
  CHECK(folder.list() == std::vector<std::string>{"a.npy"});
}

TEST_CASE("file: a save that cannot be says why and leaves nothing") {
  const TempFolder folder;
  check_error(ErrorKind::io, {"no/a", "No such file"}, [&] { save(folder.path("no/a"), "x"); });
  check_error(ErrorKind::io, {"Is a directory"}, [&] { save(folder.path(""), "x"); });
  check_error(ErrorKind::io, {"a/b", "Not a directory"}, [&] { save("/dev/null/a/b", "x"); });
  check_error(ErrorKind::io, {"No such file"}, [&] { save("", "x"); });
  check_error(ErrorKind::io, {"zero byte"}, [&] { save(folder.path(std::string("a\0b", 3)), "x"); });
  check_error(ErrorKind::io, {"File name too long"}, [&] { save(folder.path(std::string(256, 'n')), "x"); });
  make_link("loop", folder.path("loop"));
  check_error(ErrorKind::io, {"loop", "symbolic links"}, [&] { save(folder.path("loop"), "x"); });
  make_link("no/a", folder.path("nowhere"));
  check_error(ErrorKind::io, {"nowhere", "folder", "No such file"},
              [&] { save(folder.path("nowhere"), "x"); });
  CHECK(folder.list().size() == 2);
}

TEST_CASE("file: saving through a symbolic link replaces, or makes, what it leads to") {
  const TempFolder folder;
  REQUIRE(::mkdir(folder.path("store").c_str(), 0700) == 0);
  write_file(folder.path("store/run1"), "old");
  make_link("store/run1", folder.path("latest"));
  make_link("../latest", folder.path("store/again"));          // a link to a link, in another folder
  make_link(folder.path("store/new"), folder.path("newest"));  // to nothing yet
  for (const char* path : {"latest", "store/again", "newest"}) {
    CAPTURE(path);
    save(folder.path(path), path);
    CHECK(S_ISLNK(status_of(folder.path(path)).st_mode));
    CHECK(read_file(folder.path(path)) == path);
  }
  CHECK(read_file(folder.path("store/run1")) == "store/again");
  CHECK(S_ISREG(status_of(folder.path("store/new")).st_mode));
  CHECK(folder.list().size() == 3);
  { OutputFile(folder.path("latest")).write("abandoned", 9); }
  CHECK(read_file(folder.path("latest")) == "store/again");
}

TEST_CASE("file: the old file's mode and owner stay; its other hard links keep the old content") {
  const TempFolder folder;
  const std::string path = folder.path("a");
  for (const mode_t mode : {0640, 0600, 0666, 0755, 0444}) {
    write_file(path, "old");
    REQUIRE(::chmod(path.c_str(), mode) == 0);
    if (mode == 0444 && ::geteuid() != 0) continue;
    save(path, "new");
    CHECK(mode_of(path) == mode);
    CHECK(read_file(path) == "new");
    REQUIRE(::chmod(path.c_str(), 0600) == 0);
  }
  if (::geteuid() == 0) {
    REQUIRE(::chown(path.c_str(), 12345, 54321) == 0);
    save(path, "newer");
    CHECK(status_of(path).st_uid == 12345);
    CHECK(status_of(path).st_gid == 54321);
  }
  write_file(path, "old");
  REQUIRE(::link(path.c_str(), folder.path("b").c_str()) == 0);
  save(path, "new");
  CHECK(read_file(path) == "new");
  CHECK(read_file(folder.path("b")) == "old");

  const mode_t umask = ::umask(027);
  save(folder.path("fresh"), "x");
  ::umask(umask);
  CHECK(mode_of(folder.path("fresh")) == 0640);
}

TEST_CASE("file: a read-only file, and one in a folder that takes no new file, are left as they are") {
  const TempFolder folder;
  const PlainUser user(folder.path(""));
  const std::string path = folder.path("a");
  save(path, "old");
  REQUIRE(::chmod(path.c_str(), 0444) == 0);
  check_error(ErrorKind::io, {path, "cannot be replaced", "Permission denied"}, [&] { save(path, "new"); });
  REQUIRE(::chmod(path.c_str(), 0644) == 0);
  REQUIRE(::chmod(folder.path("").c_str(), 0500) == 0);
  check_error(ErrorKind::io, {path, "a new file cannot be made in its folder", "Permission denied"},
              [&] { save(path, "new"); });
  REQUIRE(::chmod(folder.path("").c_str(), 0700) == 0);
  CHECK(read_file(path) == "old");
  CHECK(folder.list() == std::vector<std::string>{"a"});
}

TEST_CASE("file: names as long as the file system takes") {
  const TempFolder folder;
  for (const size_t size : {250u, 255u}) {
    const std::string path = folder.path(std::string(size, 'n'));
    save(path, "first");
    save(path, "second");
    CHECK(read_file(path) == "second");
  }
  CHECK(folder.list().size() == 2);
}

TEST_CASE("file: temporary names that are taken are left alone, and running out of them is an error") {
  const TempFolder folder;
  const auto taken = [&](int attempt) {
    return folder.path(str(".solder.", ::getpid(), ".", attempt, ".tmp"));
  };
  const std::string path = folder.path("a");
  write_file(taken(0), "someone else's");
  {
    OutputFile file(path);
    file.write("mine", 4);
    CHECK(!std::filesystem::exists(path));
    file.commit();
  }
  CHECK(read_file(path) == "mine");
  CHECK(read_file(taken(0)) == "someone else's");
  { OutputFile(path).write("abandoned", 9); }
  CHECK(read_file(path) == "mine");
  CHECK(folder.list().size() == 2);

  for (int attempt = 1; attempt < 10'000; ++attempt)
    REQUIRE(::symlink("nowhere", taken(attempt).c_str()) == 0);
  check_error(ErrorKind::io, {path, "cannot be made", "File exists"}, [&] { save(path, "new"); });
  CHECK(read_file(path) == "mine");
}

TEST_CASE("file: pipes and devices are written, not replaced") {
  const TempFolder folder;
  const PlainUser user(folder.path(""));  // who may not replace /dev/null
  const std::string pipe = folder.path("pipe"), link = folder.path("link");
  const Tensor tensor = counting_tensor({40'000}, DType::float32);  // more than a pipe holds
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  make_link("pipe", link);
  for (const std::string& path : {pipe, link}) {
    std::string got;
    std::thread reader([&] { got = read_file(pipe); });
    save_npy(path, tensor);
    reader.join();
    CHECK(same(parse_npy(as_bytes(got)), tensor));
  }
  CHECK(S_ISFIFO(status_of(pipe).st_mode));
  save_npy("/dev/null", tensor);
  check_error(ErrorKind::io, {"/dev/full", "No space left"}, [&] { save_npy("/dev/full", tensor); });
  CHECK(folder.list().size() == 2);
}

TEST_CASE("file: a pipe that nobody reads is an error, not a signal") {
  int ends[2] = {};
  REQUIRE(::pipe(ends) == 0);
  const std::string path = str("/proc/self/fd/", ends[1]);
  ::close(ends[0]);
  check_error(ErrorKind::io, {path, "Broken pipe"}, [&] { save(path, "x"); });
  ::close(ends[1]);
  sigset_t pending;
  REQUIRE(::sigpending(&pending) == 0);
  CHECK(::sigismember(&pending, SIGPIPE) == 0);
}

TEST_CASE("file: /dev/stdout is where stdout goes") {
  const TempFolder folder;
  const std::string path = folder.path("out"), link = folder.path("link");
  make_link("/proc/self/fd/1", link);  // as /dev/stdout is, which a wrong save by root would replace
  for (const std::string& name : {"/dev/fd/1"s, link}) {
    CAPTURE(name);
    {
      const StandardOutput redirected(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600));
      CHECK(::write(1, "before ", 7) == 7);
      save(name, "saved");
      CHECK(::write(1, " after", 6) == 6);
    }
    CHECK(read_file(path) == "before saved after");
  }
  int ends[2] = {};
  REQUIRE(::pipe(ends) == 0);
  {
    const StandardOutput redirected(ends[1]);
    save(link, "saved");
  }
  char got[6] = {};
  CHECK(::read(ends[0], got, sizeof got) == 5);
  CHECK(got == "saved"sv);
  ::close(ends[0]);
  CHECK(S_ISLNK(status_of(link).st_mode));
}

}  // namespace solder
