// The test program. Closes with one line, "N passed, N failed, N skipped", in test cases; a case that needs a
// GPU is registered as skipped where there is none (see GPU_TEST_CASE), never as passed.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

namespace {

unsigned num_passed = 0, num_failed = 0, num_skipped = 0;

struct Summary : doctest::IReporter {
  explicit Summary(const doctest::ContextOptions&) {}
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats& stats) override {
    num_failed = stats.numTestCasesFailed;
    num_passed = stats.numTestCasesPassingFilters - stats.numTestCasesFailed;
    num_skipped = stats.numTestCases - stats.numTestCasesPassingFilters;
  }
  void test_case_start(const doctest::TestCaseData&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
};

}  // namespace

REGISTER_LISTENER("summary", 1, Summary);

int main(int argc, char** argv) {
  doctest::Context context(argc, argv);
  const int status = context.run();
  if (context.shouldExit()) return status;
  std::printf("%u passed, %u failed, %u skipped\n", num_passed, num_failed, num_skipped);
  return status;
}
