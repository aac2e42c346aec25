// NVRTC of the fake machine, and the loader that finds it. Its machine code is the text it was given. It
// refuses and is missing as shim::machine says.
#include <cuda_runtime.h>
#include <dlfcn.h>
#include <nvrtc.h>

#include <cstring>
#include <string>
#include <string_view>

#include "tests/faults/shim.h"

struct _nvrtcProgram {
  std::string text;
};

namespace {

int64_t num_programs = 0;
char the_library;

nvrtcResult result_of(std::string_view name) {
  return shim::machine.nvrtc_fails == name ? NVRTC_ERROR_INTERNAL_ERROR : NVRTC_SUCCESS;
}

nvrtcResult version(int* major, int* minor) {
  *major = CUDART_VERSION / 1000;
  *minor = CUDART_VERSION % 1000 / 10;
  if (result_of("version") != NVRTC_SUCCESS) ++*minor;
  return NVRTC_SUCCESS;
}
nvrtcResult create(nvrtcProgram* program, const char* text, const char*, int, const char* const*,
                   const char* const*) {
  if (result_of("nvrtcCreateProgram") != NVRTC_SUCCESS) return NVRTC_ERROR_INTERNAL_ERROR;
  const shim::Pause pause;
  *program = new _nvrtcProgram{text};
  ++num_programs;
  return NVRTC_SUCCESS;
}
nvrtcResult destroy(nvrtcProgram* program) {
  --num_programs;
  delete *program;
  return NVRTC_SUCCESS;
}
nvrtcResult compile(nvrtcProgram, int, const char* const*) { return result_of("nvrtcCompileProgram"); }
nvrtcResult code_size(nvrtcProgram program, size_t* bytes) {
  *bytes = program->text.size();
  return result_of("nvrtcGetCUBINSize");
}
nvrtcResult get_code(nvrtcProgram program, char* code) {
  std::memcpy(code, program->text.data(), program->text.size());
  return result_of("nvrtcGetCUBIN");
}
nvrtcResult log_size(nvrtcProgram, size_t* bytes) {
  *bytes = sizeof "said by the shim";
  return result_of("nvrtcGetProgramLogSize");
}
nvrtcResult get_log(nvrtcProgram, char* log) {
  std::memcpy(log, "said by the shim", sizeof "said by the shim");
  return result_of("nvrtcGetProgramLog");
}

template <class Function>
void* address(Function* function) {
  return reinterpret_cast<void*>(function);
}

}  // namespace

int64_t shim::live_programs() { return num_programs; }

extern "C" {

void* __wrap_dlopen(const char*, int) {
  return shim::machine.nvrtc_fails == "dlopen" ? nullptr : &the_library;
}
int __wrap_dlclose(void*) { return 0; }
void* __wrap_dlsym(void*, const char* wanted) {
  const std::string_view name = wanted;
  if (shim::machine.nvrtc_fails == "dlsym" && name == "nvrtcGetCUBIN") return nullptr;
  return name == "nvrtcVersion"             ? address(version)
         : name == "nvrtcCreateProgram"     ? address(create)
         : name == "nvrtcDestroyProgram"    ? address(destroy)
         : name == "nvrtcCompileProgram"    ? address(compile)
         : name == "nvrtcGetCUBINSize"      ? address(code_size)
         : name == "nvrtcGetCUBIN"          ? address(get_code)
         : name == "nvrtcGetProgramLogSize" ? address(log_size)
         : name == "nvrtcGetProgramLog"     ? address(get_log)
                                            : nullptr;
}

}  // extern "C"
