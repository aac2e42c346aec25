#pragma once

#include <locale>
#include <string>

namespace solder::file_testing {

/// The program's locale meanwhile: one that groups digits, as desktops set it: 1.000.000,5.
class GroupingLocale {
 public:
  GroupingLocale() { std::locale::global(std::locale(std::locale::classic(), new Numbers)); }
  ~GroupingLocale() { std::locale::global(std::locale::classic()); }

 private:
  struct Numbers : std::numpunct<char> {
    char do_thousands_sep() const override { return '.'; }
    char do_decimal_point() const override { return ','; }
    std::string do_grouping() const override { return "\3"; }
  };
};

}  // namespace solder::file_testing
