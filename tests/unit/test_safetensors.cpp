#include <unistd.h>

#include <cstdint>
#include <utility>

#include "runtime/safetensors.h"
#include "tests/cases/format_samples.h"
#include "tests/support/file_testing.h"

namespace solder {
using namespace file_testing;

namespace {

TensorMap parse(std::string_view bytes) { return parse_safetensors(as_bytes(bytes)); }

// A file whose first field is `header_bytes`, whatever follows.
std::string safetensors_file(uint64_t header_bytes, std::string_view rest) {
  std::string file(8, '\0');
  std::memcpy(file.data(), &header_bytes, 8);
  return file.append(rest);
}

std::string safetensors_file(const std::string& header, size_t data_bytes = 0) {
  return safetensors_file(header.size(), header + std::string(data_bytes, '\1'));
}

std::string entry(const std::string& name, const std::string& shape, const std::string& offsets,
                  const std::string& dtype = "F32") {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets +
         "}";
}

using Case = std::pair<std::string, std::string_view>;  // a header, and a word of the message it earns

}  // namespace

TEST_CASE("safetensors: files written by the reference implementation") {
  const TensorMap plain = parse(samples::kSafetensorsPlain);
  CHECK(plain.size() == 7);
  CHECK(same(plain.at("c.weight"), sample_grid(DType::float32)));
  CHECK(same(plain.at("a.half"), sample_grid(DType::float16)));
  CHECK(same(plain.at("b.brain"), sample_grid(DType::bfloat16)));
  CHECK(same(plain.at("a.bias"), Tensor::from({3}, std::vector<float>{1, 2, 3})));
  CHECK(same(plain.at("scalar"), Tensor::from({}, std::vector<float>{2.5f})));
  CHECK(same(plain.at("empty"), Tensor::empty({2, 0})));
  CHECK(same(plain.at("z.half"), Tensor::from({1}, std::vector<float>{4}).to(DType::float16)));

  const TensorMap names = parse(samples::kSafetensorsNames);
  CHECK(names.size() == 4);
  CHECK(names.at("").floats()[0] == 0.0f);
  CHECK(names.at("q\"b\\s/n\nt\tb\bf\fr\r").floats()[0] == 1.0f);
  CHECK(names.at("ctl\x01\x1f").floats()[0] == 2.0f);
  CHECK(names.at("h\u00e9\u4e16\U0001f600").floats()[0] == 3.0f);
  CHECK(parse(samples::kSafetensorsNothing).empty());
}

TEST_CASE("safetensors: round trip, and the bytes the reference writes") {
  const TempFolder folder;
  const std::string path = folder.path("a.safetensors");
  TensorMap tensors;
  for (const DType dtype : {DType::float32, DType::float16, DType::bfloat16})
    for (const Shape& shape : {Shape{}, {0}, {1}, {7}, {2, 3}, {2, 0, 4}, {1, 2, 3, 4}, Shape(64, 1)})
      tensors[str(to_string(dtype), to_string(shape))] = counting_tensor(shape, dtype);
  save_safetensors(path, tensors);
  const TensorMap loaded = load_safetensors(path);
  CHECK(loaded.size() == tensors.size());
  for (const auto& named : tensors) {
    CAPTURE(named.first);
    CHECK(same(loaded.at(named.first), named.second));
  }
  for (const std::string_view sample :
       {samples::kSafetensorsPlain, samples::kSafetensorsNames, samples::kSafetensorsNothing}) {
    save_safetensors(path, parse(sample));
    CHECK(read_file(path) == sample);
  }
  CHECK(folder.list() == std::vector<std::string>{"a.safetensors"});
}

TEST_CASE("safetensors: names that cannot be saved") {
  const TempFolder folder;
  const std::string path = folder.path("a.safetensors");
  for (const char* name :
       {"__metadata__", "\xff", "cut \xe4\xb8", "\xed\xa0\x80", "\xc0\x80", "\xf4\x90\x80\x80"})
    check_error(ErrorKind::invalid_argument, {"a.safetensors", "not UTF-8"}, [&] {
      save_safetensors(path, {{name, Tensor::empty({1})}});
    });
  check_error(ErrorKind::unsupported, {"\"deep\"", "64 axes"}, [&] {
    save_safetensors(path, {{"deep", Tensor::empty(Shape(65, 1))}});
  });
  check_error(ErrorKind::invalid_argument, {"a.safetensors", "100000000"}, [&] {
    save_safetensors(path, {{std::string(100'000'000, 'x'), Tensor::empty({1})}});
  });
  check_error(ErrorKind::io, {"No such file"},
              [&] { save_safetensors(folder.path("no/a.safetensors"), {}); });
  CHECK(folder.list().empty());
}

TEST_CASE("safetensors: other dtypes are left out, and who asks for one hears why") {
  const TensorMap tensors = parse(samples::kSafetensorsMixed);
  CHECK(tensors.size() == 1);
  CHECK(tensors.at("bn.weight").floats()[0] == 1.5f);
  CHECK(tensors.left_out == std::map<std::string, std::string>{
                                {"bn.num_batches_tracked", "I64"}, {"double", "F64"}, {"mask", "BOOL"}});
  check_error(ErrorKind::invalid_argument, {"\"double\" is there, as F64", "F32, F16 and BF16"},
              [&] { tensors.at("double"); });

  // What is left out is checked all the same; 4-bit elements must fill bytes.
  const Case cases[] = {{entry("x", "[2]", "[0,8]", "I64"), "takes 16 bytes"},
                        {entry("x", "[3]", "[0,8]", "F4"), "whole bytes"},
                        {entry("x", "[8]", "[0,8]", "F128"), "\"F128\" is not a safetensors dtype"}};
  for (const auto& pair : cases) {
    const auto& header = pair.first;
    const auto& word = pair.second;
    const std::string lie = safetensors_file("{" + header + "}", 8);
    check_error(ErrorKind::io, {"\"x\"", word}, [&] { parse(lie); });
  }
}

TEST_CASE("safetensors: a checkpoint in several files is merged, and no name is given twice") {
  const Tensor a = Tensor::from({1}, {1}), b = Tensor::from({1}, {2});
  TensorMap all = parse(samples::kSafetensorsMixed);
  all.merge({{"a", a}, {"b", b}});
  CHECK(all.size() == 3);
  CHECK(all.left_out.size() == 3);
  check_error(ErrorKind::invalid_argument, {"given twice: \"b\", \"bn.weight\" and \"double\""}, [&] {
    all.merge({{"b", a}, {"bn.weight", a}, {"c", a}, {"double", a}});
  });
  check_error(ErrorKind::invalid_argument, {"given twice: \"double\""}, [&] {
    TensorMap first{{"double", a}};
    first.merge(all);
  });
  CHECK(all.size() == 3);
  CHECK(all.at("b").floats()[0] == 2);
  TensorMap shard = parse(samples::kSafetensorsMixed);  // counters may stand in both
  shard.erase("bn.weight");
  all.merge(shard);
  CHECK(all.left_out.size() == 3);
}

TEST_CASE("safetensors: a checkpoint in several files is loaded by one call") {
  const TempFolder folder;
  const std::string a = folder.path("a.safetensors"), b = folder.path("b.safetensors");
  save_safetensors(a, {{"model.0.weight", Tensor::from({1}, {1})}});
  save_safetensors(b, {{"model.0.bias", Tensor::from({1}, {2})}, {"step", Tensor::from({1}, {3})}});
  CHECK(load_safetensors({a, b}).size() == 3);
  CHECK(load_safetensors({a}).size() == 1);
  CHECK(load_safetensors(std::vector<std::string>{}).empty());
  const TensorMap all = load_safetensors(std::vector<std::string>{a, b}, {.strip_prefix = "model."});
  CHECK(all.at("0.weight").floats()[0] == 1);
  CHECK(all.at("0.bias").floats()[0] == 2);
  CHECK(all.at("step").floats()[0] == 3);
  check_error(ErrorKind::invalid_argument, {"given twice: \"model.0.weight\""}, [&] {
    load_safetensors({a, a});
  });
  check_error(ErrorKind::io, {"no.safetensors"}, [&] {
    load_safetensors({a, folder.path("no.safetensors")});
  });
}

TEST_CASE("safetensors: a prefix is taken off names, and a wrong one is an error") {
  const Tensor a = Tensor::from({1}, {1}), b = Tensor::from({1}, {2});
  TensorMap tensors = parse(samples::kSafetensorsMixed);  // bn.weight, and bn.num_batches_tracked left out
  tensors["head.bn.weight"] = a;
  tensors.strip_prefix("");
  CHECK(tensors.size() == 2);
  check_error(ErrorKind::invalid_argument, {"no name starts with \"module.\"", "\"head.bn.weight\""},
              [&] { tensors.strip_prefix("module."); });
  check_error(ErrorKind::invalid_argument, {"without \"head.\" given twice: \"bn.weight\""},
              [&] { tensors.strip_prefix("head."); });
  CHECK(tensors.at("head.bn.weight").floats()[0] == 1);  // nothing has changed
  tensors.strip_prefix("bn.");
  CHECK(tensors.at("weight").floats()[0] == 1.5f);
  CHECK(tensors.left_out.at("num_batches_tracked") == "I64");
  CHECK(tensors.size() == 2);
  TensorMap counters{{"x", b}};
  counters.left_out = {{"m.x", "I64"}};
  check_error(ErrorKind::invalid_argument, {"given twice: \"x\""}, [&] { counters.strip_prefix("m."); });
  TensorMap nothing;
  nothing.strip_prefix("model.");
  CHECK(nothing.empty());
}

TEST_CASE("safetensors: the header is the same in a program whose locale groups digits") {
  const TempFolder folder;
  const TensorMap tensors{{"w", counting_tensor({1000, 2}, DType::float16)}, {"v", Tensor::empty({12345})}};
  save_safetensors(folder.path("classic"), tensors);
  const GroupingLocale locale;
  save_safetensors(folder.path("grouping"), tensors);
  CHECK(read_file(folder.path("grouping")) == read_file(folder.path("classic")));
  CHECK(same(load_safetensors(folder.path("grouping")).at("w"), tensors.at("w")));
}

TEST_CASE("safetensors: truncated at every byte, or with bytes too many") {
  for (const std::string_view sample : {samples::kSafetensorsPlain, samples::kSafetensorsNames}) {
    for (size_t size = 0; size < sample.size(); ++size) {
      CAPTURE(size);
      check_error(ErrorKind::io, {"<memory>", "truncated"}, [&] { parse(sample.substr(0, size)); });
    }
    for (const size_t extra : {1u, 4u, 4096u}) {
      const std::string longer = std::string(sample) + std::string(extra, '\0');
      check_error(ErrorKind::io, {"<memory>", "trailing bytes"}, [&] { parse(longer); });
    }
  }
  const TempFolder folder;
  const std::string path = folder.path("cut.safetensors");
  for (const size_t size :
       {size_t{0}, size_t{7}, size_t{8}, size_t{100}, samples::kSafetensorsPlain.size() - 1}) {
    write_file(path, samples::kSafetensorsPlain.substr(0, size));
    check_error(ErrorKind::io, {"cut.safetensors", "truncated"}, [&] { load_safetensors(path); });
  }
  check_error(ErrorKind::io, {"no.safetensors", "No such file"},
              [&] { load_safetensors(folder.path("no.safetensors")); });
}

TEST_CASE("safetensors: the header length set to a lie") {
  const std::string header = "{" + entry("x", "[2]", "[0,8]") + "}";
  const std::string rest = header + std::string(8, '\1');
  CHECK(parse(safetensors_file(header.size(), rest)).at("x").num_elems() == 2);
  const std::pair<uint64_t, std::string_view> lies[] = {{0, "does not start with '{'"},
                                                        {1, "malformed header"},
                                                        {header.size() - 1, "malformed header"},
                                                        {header.size() + 1, "leave the file"},
                                                        {rest.size(), "leave the file"},
                                                        {rest.size() + 1, "truncated"},
                                                        {uint64_t{1} << 31, "truncated"},
                                                        {(uint64_t{1} << 63) - 1, "truncated"},
                                                        {uint64_t{1} << 63, "9223372036854775808"},
                                                        {UINT64_MAX - 7, "truncated"},
                                                        {UINT64_MAX, "18446744073709551615"}};
  for (const auto& pair : lies) {
    const auto& header_bytes = pair.first;
    const auto& word = pair.second;
    CAPTURE(header_bytes);
    check_error(ErrorKind::io, {"<memory>", word}, [&] { parse(safetensors_file(header_bytes, rest)); });
  }
  // The limit itself: the bytes are there (and cost no disk), but no header has reason to be as long.
  const TempFolder folder;
  const std::string path = folder.path("long.safetensors");
  write_file(path, safetensors_file(100'000'001, "{"));
  REQUIRE(::truncate(path.c_str(), 100'000'100) == 0);
  check_error(ErrorKind::io, {"long.safetensors", "100000001", "100000000"}, [&] { load_safetensors(path); });
}

TEST_CASE("safetensors: every integer of the header set to a lie") {
  // Two tensors, so that each number is also seen between others; '#' marks the number under test.
  const Case fields[] = {{"{" + entry("a", "[#,1]", "[0,8]") + "," + entry("b", "[1]", "[8,12]") + "}", "2"},
                         {"{" + entry("a", "[2,#]", "[0,8]") + "," + entry("b", "[1]", "[8,12]") + "}", "1"},
                         {"{" + entry("a", "[2]", "[#,8]") + "," + entry("b", "[1]", "[8,12]") + "}", "0"},
                         {"{" + entry("a", "[2]", "[0,#]") + "," + entry("b", "[1]", "[8,12]") + "}", "8"},
                         {"{" + entry("a", "[2]", "[0,8]") + "," + entry("b", "[#]", "[8,12]") + "}", "1"},
                         {"{" + entry("a", "[2]", "[0,8]") + "," + entry("b", "[1]", "[#,12]") + "}", "8"},
                         {"{" + entry("a", "[2]", "[0,8]") + "," + entry("b", "[1]", "[8,#]") + "}", "12"}};
  for (const auto& pair : fields) {
    const auto& header = pair.first;
    const auto& right = pair.second;
    const auto with = [&header](std::string_view number) {
      std::string text = header;
      return safetensors_file(text.replace(text.find('#'), 1, number), 12);
    };
    CAPTURE(header);
    CHECK(parse(with(right)).size() == 2);
    for (const std::string_view lie : {"0",
                                       "-1",
                                       "3",
                                       "4",
                                       "11",
                                       "13",
                                       "2147483648",
                                       "9223372036854775807",
                                       "9223372036854775808",
                                       "18446744073709551615",
                                       "18446744073709551616",
                                       "18446744073709551624",
                                       "1e0",
                                       "8.0",
                                       "08",
                                       "+8",
                                       "0x8",
                                       "\"8\"",
                                       "null",
                                       "[8]",
                                       "8,",
                                       ",",
                                       "."}) {
      CAPTURE(lie);
      if (lie != right) check_error(ErrorKind::io, {"<memory>"}, [&] { parse(with(lie)); });
    }
  }
}

TEST_CASE("safetensors: shapes, offsets and layout that do not agree") {
  const auto one = [](const std::string& shape, const std::string& offsets) {
    return "{" + entry("x", shape, offsets) + "}";
  };
  const auto two = [](const std::string& a, const std::string& b) {
    return "{" + entry("a", "[2]", a) + "," + entry("b", "[2]", b) + "}";
  };
  std::string axes = "[1";
  for (int axis = 1; axis < 65; ++axis) axes += ",1";
  const Case cases[] = {
      {one("[2]", "[8,16]"), "a hole"},
      {one("[0]", "[16,16]"), "a hole"},
      {one("[4]", "[8,24]"), "leave the file"},
      {one("[2]", "[0,8]"), "8 trailing bytes"},
      {one("[4]", "[0,8]"), "takes 16 bytes"},
      {one("[1]", "[0,16]"), "takes 4 bytes"},
      {one("[4]", "[16,0]"), "end before they begin"},
      {one("[5]", "[0,20]"), "leave the file"},
      {one("[0]", "[17,17]"), "leave the file"},
      {one("[4]", "[9223372036854775800,9223372036854775807]"), "leave the file"},
      {one("[4294967296,4294967296]", "[0,16]"), "overflows"},
      {one("[4611686018427387908]", "[0,16]"), "overflows"},
      {one("[4294967296,4294967296,0]", "[0,0]"), "overflows"},
      {one("[-4]", "[0,16]"), "an integer from 0"},
      {one(axes + "]", "[0,4]"), "64 axes"},
      {two("[0,8]", "[0,8]"), "overlap"},
      {two("[0,8]", "[4,12]"), "overlap"},
      {two("[8,16]", "[4,12]"), "a hole"},
      {"{" + entry("a", "[4]", "[0,16]") + "," + entry("b", "[0]", "[8,8]") + "}", "overlap"},
      {"{}", "16 trailing bytes"},
      {"{\"__metadata__\":{}}", "16 trailing bytes"}};
  for (const auto& pair : cases) {
    const auto& header = pair.first;
    const auto& word = pair.second;
    CAPTURE(header);
    check_error(ErrorKind::io, {"<memory>", word}, [&] { parse(safetensors_file(header, 16)); });
  }
  // In any order, empty ones anywhere.
  const std::string shuffled = "{" + entry("z", "[0]", "[16,16]") + "," + entry("b", "[2]", "[8,16]") + "," +
                               entry("m", "[0,3]", "[8,8]") + "," + entry("a", "[2]", "[0,8]") + "," +
                               entry("y", "[0]", "[0,0]") + "}";
  CHECK(parse(safetensors_file(shuffled, 16)).size() == 5);
}

TEST_CASE("safetensors: the header's text") {
  const std::string x = entry("x", "[2]", "[0,8]");
  const std::string body = "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}";
  const std::string right[] = {
      "{" + x + "}   ",
      "{ \"x\" : { \"shape\" : [ 2 ] ,\n\t\"data_offsets\" : [ 0 , 8 ] , \"dtype\" : \"F32\" } }\r\n",
      "{\"__metadata__\":{},\"x\":" + body + "}",
      "{\"x\":" + body + ",\"__metadata__\":{\"a\":\"{[\\\"\",\"b\":\"\"}}",
      "{\"\\u0078\":{\"d\\u0074ype\":\"F\\u00332\",\"shape\":[2],\"data_offsets\":[0,8]}}"};
  for (const std::string& header : right) {
    CAPTURE(header);
    CHECK(parse(safetensors_file(header, 8)).at("x").shape() == Shape{2});
  }
  const Case wrong[] = {
      {" {" + x + "}", "does not start with '{'"},
      {"[" + x + "]", "does not start with '{'"},
      {"{" + x, "the end of the header"},
      {"{" + x + "} x", "nothing more"},
      {"{" + x + "}{}", "nothing more"},
      {"{" + x + "}" + std::string(1, '\0'), "nothing more"},
      {"{" + x + ",}", "expected '\"'"},
      {"{," + x + "}", "expected '\"'"},
      {"{" + x + x + "}", "',' or '}'"},
      {"{\"x\"" + body + "}", "expected ':'"},
      {"{'x':" + body + "}", "expected '\"'"},
      {"{x:" + body + "}", "expected '\"'"},
      {"{\"x\":[]}", "expected '{'"},
      {"{\"x\":null}", "expected '{'"},
      {"{\"x\":{}}", "expected '\"'"},
      {"{\"x\":{\"shape\":[2],\"data_offsets\":[0,8]}}", "dtype is missing"},
      {"{\"x\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", "shape is missing"},
      {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2]}}", "data_offsets is missing"},
      {"{\"x\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
       "dtype is given twice"},
      {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"y\":1}}", "unknown member \"y\""},
      {"{" + entry("x", "[2]", "[0,8]", "f32") + "}", "\"f32\" is not a safetensors dtype"},
      {"{" + entry("x", "2", "[0,8]") + "}", "expected '['"},
      {"{" + entry("x", "[2,]", "[0,8]") + "}", "an integer"},
      {"{" + entry("x", "[[2]]", "[0,8]") + "}", "an integer"},
      {"{" + entry("x", "[2}", "[0,8]") + "}", "',' or ']'"},
      {"{" + entry("x", "[2]", "[0]") + "}", "expected ','"},
      {"{" + entry("x", "[2]", "[0,8,8]") + "}", "expected ']'"},
      {"{" + entry("x", "[2]", "[]") + "}", "an integer"},
      {"{" + x + "," + x + "}", "\"x\": the name is given twice"},
      {"{" + x + "," + entry("\\u0078", "[2]", "[8,16]") + "}", "leave the file"},
      {"{" + entry("x", "[0]", "[0,0]") + "," + entry("\\u0078", "[2]", "[0,8]") + "}",
       "the name is given twice"},
      {"{\"__metadata__\":{},\"__metadata__\":{}," + x + "}", "__metadata__ is given twice"},
      {"{\"__metadata__\":{\"a\":1}," + x + "}", "expected '\"'"},
      {"{\"__metadata__\":{\"a\":{}}," + x + "}", "expected '\"'"},
      {"{\"__metadata__\":[]," + x + "}", "expected '{'"},
      {"{\"x", "the rest of a string"},
      {"{\"x\n\":" + body + "}", "the rest of a string"},
      {"{\"x\\", "after a backslash"},
      {"{\"\\x41\":" + body + "}", "after a backslash"},
      {"{\"\\u12", "hexadecimal"},
      {"{\"\\u12g4\":" + body + "}", "hexadecimal"},
      {"{\"\\ud83d\":" + body + "}", "surrogates"},
      {"{\"\\ud83d\\n\":" + body + "}", "surrogates"},
      {"{\"\\ud83d\\u0041\":" + body + "}", "surrogates"},
      {"{\"\\ude00\\ud83d\":" + body + "}", "surrogates"},
      {"{\"\\udc00\\udc00\":" + body + "}", "surrogates"},
      {"{\"\\ud83d\\u", "hexadecimal"},
      {"{\"\xff\":" + body + "}", "not UTF-8"},
      {"{\"\xc3\":" + body + "}", "not UTF-8"},
      {"{\"\xc3x\":" + body + "}", "not UTF-8"},
      {"{\"\xf8\x90\x80\x80\":" + body + "}", "not UTF-8"},
      {"{\"\xc0\xaf\":" + body + "}", "not UTF-8"},
      {"{\"\xe0\x80\xaf\":" + body + "}", "not UTF-8"},
      {"{\"\xed\xa0\x80\":" + body + "}", "not UTF-8"},
      {"{\"\xf5\x80\x80\x80\":" + body + "}", "not UTF-8"}};
  for (const auto& pair : wrong) {
    const auto& header = pair.first;
    const auto& word = pair.second;
    CAPTURE(header);
    check_error(ErrorKind::io, {"<memory>", word}, [&] { parse(safetensors_file(header, 8)); });
  }
  // Nesting costs no stack: nothing here is recursive.
  check_error(ErrorKind::io, {"expected"},
              [] { parse(safetensors_file("{\"x\":" + std::string(1 << 20, '['))); });
  check_error(ErrorKind::io, {"unknown member"}, [] {
    std::string deep;
    for (int level = 0; level < 100'000; ++level) deep += "{\"x\":";
    parse(safetensors_file(deep));
  });
}

TEST_CASE("safetensors: escapes in names") {
  const std::pair<const char*, std::string> cases[] = {{"\\u0041\\u00e9\\u4e16", "A\u00e9\u4e16"},
                                                       {"\\uD83D\\uDE00", "\U0001f600"},
                                                       {"\\ud800\\udc00", "\U00010000"},
                                                       {"\\udbff\\udfff", "\U0010ffff"},
                                                       {"\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\b\f\n\r\t"},
                                                       {"a\\u0000b", std::string("a\0b", 3)}};
  for (const auto& pair : cases) {
    const auto& written = pair.first;
    const auto& name = pair.second;
    CAPTURE(written);
    const TensorMap tensors = parse(safetensors_file("{" + entry(written, "[2]", "[0,8]") + "}", 8));
    CHECK(tensors.begin()->first == name);
    CHECK(tensors.begin()->second.shape() == Shape{2});
  }
  // Long names are cut in messages, control characters escaped.
  const std::string name = "\\n" + std::string(5000, 'n');
  try {
    parse(safetensors_file("{" + entry(name, "[3]", "[0,8]") + "}", 8));
    FAIL_CHECK("nothing was thrown");
  } catch (const Error& error) {
    CHECK(std::string_view(error.what()).size() < 400);
    CHECK(std::string_view(error.what()).find("nnn\"...") != std::string_view::npos);
    CHECK(std::string_view(error.what()).find('\n') == std::string_view::npos);
  }
}

TEST_CASE("safetensors: any byte changed gives tensors or a typed error") {
  for (const std::string_view sample : {samples::kSafetensorsPlain, samples::kSafetensorsMixed}) {
    for (size_t at = 0; at < sample.size(); ++at) {
      for (const char value : std::string_view("\0 \"09[},\\\200\377", 11)) {
        std::string copy(sample);
        copy[at] = value;
        try {
          const TensorMap tensors = parse(copy);  // not inside CHECK
          CHECK(tensors.size() <= 7);
        } catch (const Error& error) {
          CHECK(error.kind() == ErrorKind::io);
        }
      }
    }
  }
}

TEST_CASE("safetensors: offsets beyond 4 GiB") {
  // 6 GiB of zeros that the disk does not store and nobody reads, then a small tensor.
  const TempFolder folder;
  const std::string path = folder.path("big.safetensors");
  const std::string header = "{" + entry("big", "[3,268435456]", "[0,6442450944]", "I64") + "," +
                             entry("small", "[2]", "[6442450944,6442450952]") + "}";
  write_file(path, safetensors_file(header));
  const int64_t data_offset_bytes = 8 + std::ssize(header);
  REQUIRE(::truncate(path.c_str(), data_offset_bytes + 6442450944) == 0);
  const float values[2] = {1.5f, -2.5f};
  std::ofstream(path, std::ios::binary | std::ios::app)
      .write(reinterpret_cast<const char*>(values), sizeof values);
  const TensorMap tensors = load_safetensors(path);
  CHECK(same(tensors.at("small"), Tensor::from({2}, values)));
  CHECK(tensors.left_out.count("big") == 1);
}

}  // namespace solder
