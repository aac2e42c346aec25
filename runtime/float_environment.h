#pragma once

#include <cfenv>

namespace solder {

/// While it lives, the calling thread computes as C starts a program: rounding to nearest, subnormal numbers
/// kept, no traps. A caller may have set another mode, flush subnormals (-ffast-math does) or trap what is no
/// error here.
class DefaultFloatEnvironment {
 public:
  DefaultFloatEnvironment() {
    std::fegetenv(&callers_);
    std::fesetenv(FE_DFL_ENV);
  }
  DefaultFloatEnvironment(const DefaultFloatEnvironment&) = delete;
  DefaultFloatEnvironment& operator=(const DefaultFloatEnvironment&) = delete;
  ~DefaultFloatEnvironment() { std::fesetenv(&callers_); }

 private:
  std::fenv_t callers_;
};

}  // namespace solder
