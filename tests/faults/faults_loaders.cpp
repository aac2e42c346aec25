// The file formats when things go wrong: every allocation and every file operation fails, every byte is cut
// off, every number of a header lies; and how much memory loading takes, whatever the file says.
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "runtime/npy.h"
#include "runtime/safetensors.h"
#include "tests/cases/format_samples.h"
#include "tests/faults/shim.h"
#include "tests/support/file_testing.h"

using namespace solder;
using namespace solder::file_testing;
using shim::Calls;

namespace {

constexpr int64_t kSlackBytes = 64 << 10;

int64_t num_open_files() {
  const std::filesystem::directory_iterator files("/proc/self/fd");
  return std::distance(begin(files), end(files));
}

struct Tally {
  int64_t faults = 0, errors = 0;
};

// Lets each call of `action` fail, once and for good, with `code`; `check_after` looks at what is left
// behind, told whether the action reported success.
template <class Action, class CheckAfter>
Tally sweep(Calls calls, int code, ErrorKind kind, const char* word, Action action, CheckAfter check_after) {
  Tally tally;
  for (const bool for_good : {false, true}) {
    if (for_good && code == EINTR) continue;  // that would be waited for, rightly
    for (int64_t n = 1;; ++n) {
      CAPTURE(n);
      CAPTURE(for_good);
      const int64_t blocks = shim::live_heap_blocks(), files = num_open_files();
      std::string message;
      bool failed = false, is_right_kind = true;
      shim::arm({calls, n, for_good, code});
      try {
        action();
      } catch (const Error& error) {
        const shim::Pause pause;
        failed = true, is_right_kind = error.kind() == kind, message = error.what();
      }
      const bool reached = shim::disarm().num_failed > 0;
      if (!reached) {
        CHECK(!failed);
        check_after(true);
        break;
      }
      ++tally.faults, tally.errors += failed;
      const bool says = !failed || message.find(word) != std::string::npos;
      CHECK_MESSAGE(is_right_kind, message);
      CHECK_MESSAGE(says, message);
      CHECK(num_open_files() == files);
      check_after(!failed);
      std::string().swap(message);
      CHECK(shim::live_heap_blocks() <= blocks);
    }
  }
  return tally;
}

struct Loaders {
  TempFolder folder;
  std::string npy = folder.path("a.npy"), safetensors = folder.path("a.safetensors");
  Tensor array = counting_tensor({3, 5}, DType::float32), other = counting_tensor({7}, DType::float16);
  TensorMap tensors{{"first", array}, {"second, with a long name that needs memory", other}};
  Tensor loaded;
  TensorMap loaded_tensors;
  std::string old_npy, old_safetensors;

  // The array's file lies behind a link and has a mode of its own: saving has both to see to.
  Loaders() {
    std::filesystem::create_symlink("stored.npy", npy);
    save_npy(npy, other);
    REQUIRE(::chmod(npy.c_str(), 0604) == 0);
    save_safetensors(safetensors, {{"old", other}});
    old_npy = read_file(npy), old_safetensors = read_file(safetensors);
  }

  // A save that failed leaves the old file, one that did not the new one; neither anything else.
  void check_saved(const std::string& path, const std::string& old_bytes, bool saved) const {
    CHECK((read_file(path) == old_bytes) == !saved);
    CHECK(std::filesystem::status(npy).permissions() == std::filesystem::perms{0604});
    CHECK(std::filesystem::is_symlink(npy));
    CHECK(folder.list().size() == 3);
    write_file(path, old_bytes);
  }
};

}  // namespace

TEST_CASE("faults: loading and saving while allocations or file operations fail") {
  Loaders at;
  save_npy(at.folder.path("a.npy"), at.array);  // what is made once and kept has been made
  write_file(at.npy, at.old_npy);
  struct Way {
    Calls calls;
    int code;
    ErrorKind kind;
    const char* word;
  };
  Tally all;
  for (const Way& way : {Way{Calls::memory, 1, ErrorKind::out_of_memory, "host memory"},
                         Way{Calls::files, EIO, ErrorKind::io, "Input/output error"},
                         Way{Calls::files, ENOSPC, ErrorKind::io, "No space left"},
                         Way{Calls::files, EMFILE, ErrorKind::io, "Too many open files"}}) {
    const auto count = [&](const Tally& tally, int64_t least) {
      CHECK(tally.errors >= least);
      all.faults += tally.faults, all.errors += tally.errors;
    };
    const auto sweep_way = [&](auto action, auto check_after) {
      return sweep(way.calls, way.code, way.kind, way.word, action, check_after);
    };
    count(sweep_way([&] { at.loaded = load_npy(at.npy); },
                    [&](bool loaded) {
                      if (loaded) CHECK(same(at.loaded, at.other));
                      at.loaded = Tensor();
                    }),
          3);
    count(sweep_way([&] { at.loaded_tensors = load_safetensors(at.safetensors); },
                    [&](bool loaded) {
                      if (loaded) CHECK(same(at.loaded_tensors.at("old"), at.other));
                      at.loaded_tensors.clear();
                    }),
          3);
    count(sweep_way([&] { save_npy(at.npy, at.array); },
                    [&](bool saved) { at.check_saved(at.npy, at.old_npy, saved); }),
          6);
    count(sweep_way([&] { save_safetensors(at.safetensors, at.tensors); },
                    [&](bool saved) { at.check_saved(at.safetensors, at.old_safetensors, saved); }),
          6);
  }
  CHECK(same(load_npy(at.npy), at.other));
  CHECK(load_safetensors(at.safetensors).size() == 1);
  MESSAGE(str("loaders: ", all.faults, " faults, ", all.errors, " typed errors"));
}

TEST_CASE("faults: an interrupted read or write goes on") {
  Loaders at;
  const auto interrupted = [&](int64_t n, auto action) {
    shim::arm({Calls::files, n, false, EINTR});
    action();
    const shim::Report report = shim::disarm();
    CHECK(report.num_failed == 1);
    return report.failed.at(0);
  };
  CHECK(interrupted(3, [&] { at.loaded = load_npy(at.npy); }) == "pread");
  CHECK(same(at.loaded, at.other));
  CHECK(interrupted(8, [&] { save_npy(at.npy, at.array); }) == "write");
  CHECK(same(load_npy(at.npy), at.array));
}

namespace {

// Parses `file`, which must be refused, within its own size and 64 KiB of memory.
template <class Parse>
void check_refused(const std::string& file, Parse parse) {
  CAPTURE(file.size());
  bool refused = false;
  shim::arm({Calls::memory});
  try {
    parse(file);
  } catch (const Error& error) {
    const shim::Pause pause;
    refused = error.kind() == ErrorKind::io || error.kind() == ErrorKind::unsupported;
  }
  shim::disarm();
  CHECK(refused);
  CHECK(shim::peak_heap_bytes() <= std::ssize(file) + kSlackBytes);
}

// `file` with the `size` bytes at `at` set to `value`, little-endian.
std::string with_number(std::string file, size_t at, size_t size, uint64_t value) {
  for (size_t i = 0; i < size; ++i, value >>= 8) file[at + i] = static_cast<char>(value & 255u);
  return file;
}

constexpr uint64_t kLies[] = {0, ~uint64_t{0}, uint64_t{1} << 31, uint64_t{1} << 63};
constexpr const char* kWrittenLies[] = {"0", "-1", "2147483648", "9223372036854775808",
                                        "18446744073709551615"};

// Cuts `file` at every byte; makes the binary numbers at `fields` (offset, size) and every number written in
// its text lie.
template <class Parse>
int64_t check_lies(const std::string& file, std::initializer_list<std::pair<size_t, size_t>> fields,
                   size_t text_end, Parse parse) {
  int64_t num_tried = 0;
  const auto refuse = [&](const std::string& changed) {
    if (changed != file) ++num_tried, check_refused(changed, parse);
  };
  parse(file);
  for (size_t size = 0; size < file.size(); ++size) refuse(file.substr(0, size));
  for (const auto& [at, size] : fields)
    for (const uint64_t lie : kLies) refuse(with_number(file, at, size, lie));
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  for (size_t at = 0; at < text_end; ++at) {
    if (!is_digit(file[at]) || is_digit(file[at - 1])) continue;
    size_t end = at;
    while (is_digit(file[end])) ++end;
    for (const char* lie : kWrittenLies) {
      CAPTURE(at);
      CAPTURE(lie);
      refuse(std::string(file).replace(at, end - at, lie));
      // The same without moving the data, where the header's padding leaves room.
      const size_t grown = std::string_view(lie).size() - std::min(std::string_view(lie).size(), end - at);
      const size_t spaces = file.rfind(std::string(std::max<size_t>(grown, 1), ' '), text_end);
      if (grown > 0 && spaces != std::string::npos && spaces > end)
        refuse(std::string(file).erase(spaces, grown).replace(at, end - at, lie));
    }
  }
  return num_tried;
}

}  // namespace

TEST_CASE(
    "faults: cut at every byte and lied to in every header field, a file is refused in bounded memory") {
  const auto npy = [](const std::string& file) { parse_npy(as_bytes(file)); };
  int64_t num_tried = 0;
  for (const std::string_view sample : {samples::kNpyF4, samples::kNpyFortran, samples::kNpyVector}) {
    const std::string file(sample);
    num_tried += check_lies(file, {{0, 6}, {6, 1}, {7, 1}, {8, 2}}, file.find('\n'), npy);
  }
  const std::string second(samples::kNpyVersion2);
  num_tried += check_lies(second, {{6, 1}, {8, 4}}, second.find('\n'), npy);

  const auto safetensors = [](const std::string& file) { parse_safetensors(as_bytes(file)); };
  std::string header = R"({"b":{"dtype":"F32","shape":[3,2],"data_offsets":[0,24]},)"
                       R"("a":{"dtype":"F16","shape":[5],"data_offsets":[24,34]}})";
  header.resize(200, ' ');
  const std::string file =
      with_number(std::string(8, '\0'), 0, 8, header.size()) + header + std::string(34, 'x');
  num_tried += check_lies(file, {{0, 8}}, 8 + header.size(), safetensors);
  MESSAGE(str("files refused: ", num_tried));
}

TEST_CASE("faults: a loaded file takes its own size and 64 KiB of memory at most") {
  const TempFolder folder;
  const std::string path = folder.path("file");
  const auto check_peak = [&](auto load) {
    const int64_t file_bytes = static_cast<int64_t>(std::filesystem::file_size(path));
    shim::arm({Calls::memory});
    const auto loaded = load();
    shim::disarm();
    CAPTURE(file_bytes);
    CHECK(shim::peak_heap_bytes() <= file_bytes + kSlackBytes);
    CHECK(shim::peak_heap_bytes() > (1 << 20));
    return loaded;
  };
  Tensor big = Tensor::empty({512, 1024});
  for (int64_t idx = 0; idx < big.num_elems(); ++idx)
    static_cast<int32_t*>(big.data())[idx] = static_cast<int32_t>(idx);
  save_npy(path, big);
  CHECK(same(check_peak([&] { return load_npy(path); }), big));

  std::string bytes = read_file(path);
  const size_t order = bytes.find("False");
  bytes.replace(order, 5, "True ");
  write_file(path, bytes);
  const Tensor columns = check_peak([&] { return load_npy(path); });
  const auto bits = [](const Tensor& tensor, int64_t idx) {
    return static_cast<const uint32_t*>(tensor.data())[idx];
  };
  int64_t num_wrong = 0;
  for (int64_t row = 0; row < 512; ++row)
    for (int64_t column = 0; column < 1024; ++column)
      num_wrong += bits(columns, row * 1024 + column) != bits(big, column * 512 + row);
  CHECK(num_wrong == 0);

  save_safetensors(path, {{"big", big}, {"small", counting_tensor({3}, DType::bfloat16)}});
  CHECK(same(check_peak([&] { return load_safetensors(path); }).at("big"), big));
}
