// After a fault on the device CUDA fails for good, so this happens in a program of its own,
// tests/gpu/lost_device.cu.
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/support/support.h"

using namespace solder;
using namespace solder::test;

namespace {

std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

GPU_TEST_CASE("lost device: every later call says so, destructors are quiet, the exit status is not 0") {
  const std::filesystem::path program =
      std::filesystem::read_symlink("/proc/self/exe").parent_path() / "lost_device";
  REQUIRE_MESSAGE(std::filesystem::exists(program), program, " is not built");
  char folder[] = "/tmp/solder_XXXXXX";
  REQUIRE(::mkdtemp(folder) != nullptr);
  const std::string out = std::string(folder) + "/out", err = std::string(folder) + "/err";
  const int status = std::system((program.string() + " >" + out + " 2>" + err).c_str());
  const std::string said = contents(out), complaint = contents(err);
  std::filesystem::remove_all(folder);

  CHECK(said ==
        "before: went well\nrun: device lost\nfirst run: device lost\nenqueue: device lost\n"
        "execute: device lost\nsynchronize: device lost\nprofile: device lost\nsession: device lost\n"
        "compile: device lost\nto the device: device lost\nfrom the device: device lost\n"
        "a tensor: device lost\nmoved and destroyed: went well\n"
        "on the CPU: went well\n");
  CAPTURE(complaint);
  CHECK(complaint.rfind("device lost: the GPU is lost to this process", 0) == 0);
  CHECK(complaint.find('\n') == complaint.size() - 1);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 1);
}
