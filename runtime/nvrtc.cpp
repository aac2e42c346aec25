#include "runtime/nvrtc.h"

#include <cuda_runtime.h>
#include <dlfcn.h>
#include <nvrtc.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <iomanip>
#include <memory>

#include "runtime/check.h"
#include "runtime/file.h"

namespace solder {
namespace {

constexpr const char* kOptions[] = {"--std=c++20", "--fmad=false", "--device-as-default-execution-space"};

// NVRTC's functions, in a library that is loaded when it is needed.
class Nvrtc {
 public:
  // With a reason in `why_not` it cannot be used.
  explicit Nvrtc(std::string* why_not) {
    const std::string name = str("libnvrtc.so.", CUDART_VERSION / 1000);
    // NODELETE: it stays for the next kernel. Unloading it would save nothing but its pages.
    for (const std::string& path : {SOLDER_CUDA_LIB "/" + name, name})
      if (library_ == nullptr) library_ = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    int major = 0, minor = 0;
    if (library_ == nullptr) {
      *why_not = name + " is not there";
    } else if (!(find(version_, "nvrtcVersion") && find(create, "nvrtcCreateProgram") &&
                 find(destroy, "nvrtcDestroyProgram") && find(compile, "nvrtcCompileProgram") &&
                 find(code_size, "nvrtcGetCUBINSize") && find(get_code, "nvrtcGetCUBIN") &&
                 find(log_size, "nvrtcGetProgramLogSize") && find(get_log, "nvrtcGetProgramLog"))) {
      *why_not = name + " lacks a function";
    } else if (version_(&major, &minor) != NVRTC_SUCCESS || 1000 * major + 10 * minor != CUDART_VERSION) {
      *why_not = str(name, " is of version ", major, ".", minor, ", not of this build's");
    }
  }
  Nvrtc(const Nvrtc&) = delete;
  Nvrtc& operator=(const Nvrtc&) = delete;
  ~Nvrtc() {
    if (library_ != nullptr) ::dlclose(library_);
  }

  decltype(&nvrtcCreateProgram) create = nullptr;
  decltype(&nvrtcDestroyProgram) destroy = nullptr;
  decltype(&nvrtcCompileProgram) compile = nullptr;
  decltype(&nvrtcGetCUBINSize) code_size = nullptr;
  decltype(&nvrtcGetCUBIN) get_code = nullptr;
  decltype(&nvrtcGetProgramLogSize) log_size = nullptr;
  decltype(&nvrtcGetProgramLog) get_log = nullptr;

 private:
  template <class Function>
  bool find(Function& function, const char* name) const {
    function = reinterpret_cast<Function>(::dlsym(library_, name));
    return function != nullptr;
  }

  void* library_ = nullptr;
  decltype(&nvrtcVersion) version_ = nullptr;
};

// A text that NVRTC returns in two calls.
template <class Size, class Get>
std::string text_of(nvrtcProgram program, Size size, Get get) {
  size_t bytes = 0;
  if (size(program, &bytes) != NVRTC_SUCCESS) return {};
  std::string text(bytes, '\0');
  return get(program, text.data()) == NVRTC_SUCCESS ? text : std::string();
}

void compile_now(const std::string& source, const std::string& architecture, CompiledCode* result) {
  const Nvrtc nvrtc(&result->why_not);
  if (!result->why_not.empty()) return;
  nvrtcProgram program = nullptr;
  if (nvrtc.create(&program, source.c_str(), "solder.cu", 0, nullptr, nullptr) != NVRTC_SUCCESS) {
    result->why_not = "NVRTC takes no program";
    return;
  }
  const auto destroy = [&](nvrtcProgram* p) { nvrtc.destroy(p); };
  const std::unique_ptr<nvrtcProgram, decltype(destroy)> owner(&program, destroy);
  const std::string target = "--gpu-architecture=" + architecture;
  std::vector<const char*> options(std::begin(kOptions), std::end(kOptions));
  options.push_back(target.c_str());
  if (nvrtc.compile(program, static_cast<int>(options.size()), options.data()) == NVRTC_SUCCESS)
    result->code = text_of(program, nvrtc.code_size, nvrtc.get_code);
  if (result->code.empty()) {
    const std::string log = text_of(program, nvrtc.log_size, nvrtc.get_log);
    result->why_not = "NVRTC: " + log.substr(0, log.find('\n'));
  }
}

uint64_t hash_of(const std::string& text) {  // FNV-1a
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

std::string hex(uint64_t number) { return str(std::hex, std::setw(16), std::setfill('0'), number); }

// Empty when the environment names none.
std::string cache_folder() {
  const auto env = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value != nullptr ? value : "");
  };
  if (const std::string folder = env("SOLDER_CACHE_DIR"); !folder.empty()) return folder;
  if (const std::string folder = env("XDG_CACHE_HOME"); !folder.empty()) return folder + "/solder";
  if (const std::string folder = env("HOME"); !folder.empty()) return folder + "/.cache/solder";
  return {};
}

// The text behind `key` in an entry: the hash of the rest, the key, the text. Empty unless all of it is
// right.
std::string read_entry(const std::string& path, const std::string& key) try {
  const FileSource file(path);
  std::string entry(static_cast<size_t>(file.num_bytes()), '\0');
  file.read(0, entry.data(), file.num_bytes());
  const std::string rest = entry.substr(std::min<size_t>(entry.size(), 16));
  if (entry != hex(hash_of(rest)) + rest || !rest.starts_with(key)) return {};
  return rest.substr(key.size());
} catch (const Error& error) {
  if (error.kind() != ErrorKind::io) throw;
  return {};
}

void write_entry(const std::string& path, const std::string& key, const std::string& text) try {
  std::error_code ignored;  // the file says it again
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  const std::string rest = key + text, entry = hex(hash_of(rest)) + rest;
  OutputFile file(path);
  file.write(entry.data(), static_cast<int64_t>(entry.size()));
  file.commit();
} catch (const Error& error) {
  if (error.kind() != ErrorKind::io) throw;
}

}  // namespace

CompiledCode compile_cuda(const std::string& source, const std::string& architecture) {
  std::string key = str("solder, CUDA ", CUDART_VERSION, ", ", architecture);
  for (const char* option : kOptions) key += str(" ", option);
  key += "\n" + source + '\0';  // ends it: no key starts another
  const std::string folder = cache_folder(), path = str(folder, "/", hex(hash_of(key)), ".cubin");
  CompiledCode result;
  if (!folder.empty()) result.code = read_entry(path, key);
  if (!result.code.empty()) return result;
  const auto start = std::chrono::steady_clock::now();
  compile_now(source, architecture, &result);
  result.compile_ms =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  if (!result.code.empty() && !folder.empty()) write_entry(path, key, result.code);
  return result;
}

}  // namespace solder
