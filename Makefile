# solder: `make run` builds everything and runs the headline model; `make test` runs the tests.
# `make help` lists the targets.
#
# Settings: ARCHS="80 90a" GPU architectures (default: those of the GPUs here; all: of those since Turing what nvcc knows),
# CUDA_HOME=/path, CUDA=0 for the CPU backend alone, SHARED=1 for libsolder.so, V=1 for commands instead of progress,
# LINEINFO=1 for kernels' lines in profilers and sanitizers (the same instructions in three times as many bytes),
# PREFIX=/usr/local for install, BENCH_ARGS="--peers --json FILE".

# All cores, unless -j says otherwise.
ifeq ($(MAKELEVEL),0)
  MAKEFLAGS += -j$(shell nproc) --no-print-directory
endif
# Several goals one after the other (`make clean run`, `make run test`), each on all cores; files all at once.
ifneq ($(and $(word 2,$(MAKECMDGOALS)),$(strip $(foreach goal,$(MAKECMDGOALS),$(if $(findstring /,$(goal)),,x)))),)
.NOTPARALLEL:
.PHONY: $(MAKECMDGOALS)
$(sort $(MAKECMDGOALS)):
	@$(MAKE) $@
else

comma   := ,
quote   := '
BUILD   := build
PREFIX  ?= /usr/local
CXX     ?= g++
VERSION := $(shell sed -n 's/.*kVersion = "\(.*\)".*/\1/p' runtime/version.h)
# What `make models` fetches and makes, and the float64 results that networks are compared with.
MODELS  ?= build/models
PICTURE ?= examples/pictures/receipt.jpg
GOLDENS := $(or $(SOLDER_GOLDENS_DIR),tests/data/networks)

# The CUDA toolkit: CUDA_HOME, then PATH, then the usual prefixes.
ifneq ($(CUDA),0)
  NVCC := $(firstword $(wildcard $(CUDA_HOME)/bin/nvcc) $(shell command -v nvcc 2>/dev/null) \
                      $(wildcard /usr/local/cuda/bin/nvcc /usr/local/cuda-*/bin/nvcc /opt/cuda/bin/nvcc))
endif
ifneq ($(NVCC),)
  CUDA_ROOT := $(abspath $(dir $(realpath $(NVCC)))..)
  CUDA_LIB  := $(firstword $(wildcard $(CUDA_ROOT)/lib64 $(CUDA_ROOT)/targets/x86_64-linux/lib $(CUDA_ROOT)/lib))
  WITH_CUDA := 1
else
  WITH_CUDA := 0
endif
# Of the GPUs here that this nvcc knows, or else one general and Hopper (whose own instructions need the a).
ifeq ($(origin ARCHS),undefined)
  GPU_ARCHS := $(if $(NVCC),$(sort $(subst .,,$(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null))))
  NVCC_ARCHS := $(if $(GPU_ARCHS),$(patsubst sm_%,%,$(shell $(NVCC) --list-gpu-code)))
  export ARCHS := $(patsubst 90,90a,$(or $(filter $(NVCC_ARCHS),$(GPU_ARCHS)),80 90))
endif

# Since Turing; Hopper with its own instructions.
ALL_ARCHS := 75 80 86 89 90 120
ifeq ($(ARCHS),all)
  override ARCHS := $(patsubst 90,90a,$(filter $(patsubst sm_%,%,$(shell $(NVCC) --list-gpu-code)),$(ALL_ARCHS)))
endif

# Contraction is off everywhere: fused and unfused chains agree bit for bit (see ops/elementwise/formulas.h).
# -Wrestrict: g++ 12 sees an overlap in every "literal" + std::string that is not there (GCC bug 105651).
WARNINGS := -Wall -Wextra -Werror -Wconversion -Wno-missing-field-initializers -Wno-restrict
CPPFLAGS := -I. -DSOLDER_WITH_CUDA=$(WITH_CUDA) -DSOLDER_WITH_SM90=$(if $(NVCC),$(if $(filter 90a,$(ARCHS)),1,0),0) $(if $(NVCC),-isystem $(CUDA_ROOT)/include)
# -g1 has functions and lines; -g takes 40 percent longer.
# A public header's namespace is visible in a shared library, and nothing else.
CXXFLAGS := -std=c++20 -O3 -g1 -fPIC -fvisibility=hidden -fvisibility-inlines-hidden -ffp-contract=off $(WARNINGS)
# PTX of the highest plain architecture lets later GPUs compile the general kernels at load time.
PTX_ARCH := $(shell printf '%s\n' $(filter-out %a %f,$(ARCHS)) | sort -n | tail -1)
GENCODE  := $(foreach a,$(ARCHS),-gencode=arch=compute_$(a),code=sm_$(a)) \
            $(if $(PTX_ARCH),-gencode=arch=compute_$(PTX_ARCH)$(comma)code=compute_$(PTX_ARCH))
NVCCFLAGS = -std=c++20 -O3 $(if $(filter 1,$(LINEINFO)),-lineinfo) --fmad=false --expt-relaxed-constexpr -Werror all-warnings \
             -Xcompiler=-fPIC,-fvisibility=hidden,-ffp-contract=off,-Wall -Xptxas=-v $(GENCODE)
LDLIBS   := -pthread $(if $(NVCC),-L$(CUDA_LIB) -Wl$(comma)-rpath$(comma)$(CUDA_LIB) -lcublas -lcudart_static -ldl -lrt)
ifneq ($(SANITIZE),)
  CXXFLAGS += $(SANITIZE)
  LDLIBS   += $(SANITIZE)
endif

# Sources are found by folder, four levels down.
find_all  = $(foreach depth,$(1)/ $(1)/*/ $(1)/*/*/ $(1)/*/*/*/,$(wildcard $(depth)$(2)))
LIBRARY   := runtime ops graph
find_lib  = $(foreach folder,$(LIBRARY),$(call find_all,$(folder),$(1)))
# What needs CUDA: every .cu, and these.
CUDA_ONLY := runtime/check_cuda.cpp runtime/stream.cpp runtime/cublas.cpp runtime/buffer.cpp runtime/context.cpp \
             runtime/nvrtc.cpp ops/elementwise/generated.cpp ops/matmul/gemm_cuda.cpp \
             ops/conv/pixels/plan.cpp graph/executor_cuda.cpp
LIB_CPP   := $(filter-out $(if $(NVCC),,$(CUDA_ONLY)),$(call find_lib,*.cpp))
# A file's name says whose own instructions it uses; without that architecture in ARCHS it is left out.
HOPPER_CU := $(call find_lib,*_sm90.cu)
LIB_CU    := $(if $(NVCC),$(filter-out $(if $(filter 90a,$(ARCHS)),,$(HOPPER_CU)),$(call find_lib,*.cu)))
# Sanitizers instrument host code alone: their builds take the kernels of another one.
CU_BUILD  ?= $(BUILD)
# What takes longest first, so that all cores are busy to the end.
LIB_OBJ   := $(patsubst %,$(CU_BUILD)/%.o,$(filter $(HOPPER_CU),$(LIB_CU)) $(filter-out $(HOPPER_CU),$(LIB_CU))) \
             $(LIB_CPP:%=$(BUILD)/%.o) $(if $(NVCC),$(BUILD)/ops/elementwise/text.cpp.o)
LIB       := $(BUILD)/libsolder.a
# With SHARED=1 what is installed, and the programs, use the shared library; tests see all of the static one.
SO_NAME   := libsolder.so.$(basename $(VERSION))
SO        := $(BUILD)/libsolder.so.$(VERSION)
LINKED    := $(if $(filter 1,$(SHARED)),$(SO),$(LIB))
LINK_LIB  = $(LINKED) $(if $(filter 1,$(SHARED)),-pthread $(SANITIZE) -Wl$(comma)-rpath$(comma)'$$ORIGIN:$$ORIGIN/../lib',$(LDLIBS))
TEST_SRC  := $(wildcard tests/unit/*.cpp tests/gpu/test_*.cpp tests/support/*.cpp) $(if $(NVCC),$(wildcard tests/unit/*.cu tests/gpu/test_*.cu))
TEST_OBJ  := $(patsubst %,$(BUILD)/%.o,$(filter %.cpp,$(TEST_SRC))) $(patsubst %,$(CU_BUILD)/%.o,$(filter %.cu,$(TEST_SRC)))
TESTS     := $(BUILD)/solder_tests
EXAMPLES  := $(patsubst examples/%.cpp,$(BUILD)/%,$(filter-out examples/ocr.cpp,$(wildcard examples/*.cpp)))
CLI       := $(BUILD)/solder-run
CLI_OBJ   := $(patsubst %,$(BUILD)/%.o,$(wildcard examples/solder_run/*.cpp))
# The networks of examples, for programs with a main of their own.
NETWORKS  := $(patsubst %,$(BUILD)/networks/%.o,resnet50 cspdarknet53_mish)
CLI_PARTS := $(filter-out %/main.cpp.o,$(CLI_OBJ)) $(NETWORKS)
KATAGO_OBJ := $(patsubst %,$(BUILD)/%.o,$(wildcard examples/katago/*.cpp))
# The backend for Triton Inference Server reads solder-run's text graphs.
TRITON    := $(BUILD)/libtriton_solder.so
TRITON_OBJ := $(patsubst %,$(BUILD)/%.o,$(wildcard examples/triton/*.cpp))
TRITON_PARTS := $(patsubst %,$(BUILD)/%.o,$(wildcard examples/solder_run/text_*.cpp) examples/solder_run/files.cpp)
OCR_OBJ   := $(patsubst %,$(BUILD)/%.o,examples/ocr.cpp $(wildcard examples/ocr/*.cpp))
USER_OBJ  := $(EXAMPLES:$(BUILD)/%=$(BUILD)/examples/%.cpp.o) $(CLI_OBJ) $(KATAGO_OBJ) $(OCR_OBJ) $(TRITON_OBJ)
# What tests need of the examples, by the tests that there are.
TRITON_TESTED = $(if $(filter %/test_triton.cpp,$(TEST_SRC)),$(TRITON_OBJ))
NETWORK_PARTS = $(if $(filter %/test_networks.cpp,$(TEST_SRC)),$(NETWORKS) $(KATAGO_OBJ))
# KataGo's files are gzip. Without zlib's header that example says so when it is run.
ZLIB      := $(shell $(CXX) -include zlib.h -E -x c++ /dev/null >/dev/null 2>&1 && echo 1 || echo 0)
LINK_ZLIB  = $(if $(filter %/gzip.cpp.o,$^),$(if $(filter 1,$(ZLIB)),-lz))
BENCHES   := $(patsubst tests/bench/%.cpp,$(BUILD)/%,$(wildcard tests/bench/bench_$(if $(NVCC),*,cpu).cpp))
HEADERS   := $(filter-out $(if $(NVCC),,runtime/check_cuda.h),$(call find_lib,*.h))
PUBLIC    := $(BUILD)/include/solder/solder.h

# A line of progress a step, n of m. When the first one starts, a make that runs nothing counts the steps.
ifeq ($(V),1)
  say :=
else ifdef COUNTING
  say  = @echo step;
  MAKE := :
else
  NUM_STEPS = $(eval NUM_STEPS := $(shell MAKELEVEL=1 MAKEFLAGS='n -- $(subst $(quote),$(quote)\$(quote)$(quote),$(MAKEOVERRIDES))' \
    $(MAKE) COUNTING=1 ARCHS='$(ARCHS)' $(MAKECMDGOALS) | grep -c '^echo step;'))$(NUM_STEPS)
  say = @$(eval DONE += x)printf '[%3d/%d] %s\n' $(words $(DONE)) $(NUM_STEPS) '$(1)' &&
endif

.PHONY: all ocr run test models networks triton triton-test benches bench bench-gpus bench-networks bench-onnx accuracy pictures headers layers format format-check sanitize faults tsan asan soak fuzz coverage tidy install loc help clean
.DELETE_ON_ERROR:

all: $(LINKED) $(EXAMPLES) $(CLI)  ## the library, the examples and solder-run (default)

ocr: $(BUILD)/ocr models  ## reads the text of a picture with two ONNX models, which it fetches
	@for picture in $(PICTURE); do $< $$picture $(MODELS)/onnx/packages/ppocr4_det.onnx $(MODELS)/onnx/packages/ppocr4_rec.onnx || exit 1; done

run: $(LINKED) $(BUILD)/conv_double_mish  ## the headline model, checked; with PyTorch there, on its weights and input
	@tests/tools/run_headline.sh $(BUILD)/conv_double_mish

test: $(LIB) $(TESTS) $(EXAMPLES) $(BUILD)/ocr $(CLI) $(if $(NVCC),$(BUILD)/faults $(BUILD)/lost_device)  ## all tests; those that need a GPU are counted as skipped without one
	@tests/tools/check_examples.sh $(BUILD)
	@CXX='$(CXX)' tests/tools/check_install.sh $(BUILD)
	@if command -v python3 >/dev/null; then tests/tools/check_solder_run.py $(CLI); else echo 'solder-run: not checked, there is no python3'; fi
	@tests/networks/prepare.sh $(MODELS) $(GOLDENS) $(BUILD)
	@$(TESTS)
	@$(if $(NVCC),$(BUILD)/faults)

models:  ## fetches the trained networks that tests run (0.3 GB) and draws the weights of the others, into build/models
	@CXX='$(CXX)' tests/networks/prepare.sh $(MODELS) $(GOLDENS) fetch

networks: $(TESTS) models  ## whole networks against float64, every golden at every batch (minutes on a CPU)
	@SOLDER_NETWORKS=all $(TESTS) -tc='networks:*,*gpu* networks:*'

triton: $(TRITON)  ## libtriton_solder.so, a backend for Triton Inference Server (examples/triton/README.md)

REQUESTS ?= 10000
triton-test: $(TRITON) $(BUILD)/libtriton_identity.so $(CLI)  ## the backend in a real server on the CPU (GPU=1: on GPUs), from PyPI (55 MB); REQUESTS=10000 under load
	@python3 tests/triton/check_triton.py $(BUILD) $(REQUESTS) $(if $(GPU),--gpu)

bench-gpus: $(TRITON) $(CLI)  ## two GPUs beside one: processes of solder-run, and KataGo (make models; numpy) through the server of triton-test
	@python3 tests/bench/bench_processes.py $(CLI)
	@python3 tests/triton/bench_gpus.py $(BUILD) $(MODELS)/katago_b18c384nbt.bin.gz

bench-networks: $(CLI)  ## whole networks in every mode beside PyTorch and torch.compile, in one run (needs torch and timm)
	@python3 tests/bench/network_peers.py --compile $(BENCH_ARGS) $(CLI)

bench-onnx: $(CLI)  ## ONNX models beside onnx2torch on the GPU and onnxruntime on the CPU, and how soon a first result is there (make models; needs these, and torch)
	@python3 tests/bench/onnx_peers.py $(BENCH_ARGS) $(MODELS) $(CLI)

benches: $(BENCHES)  ## builds the benchmarks, which CI cannot run

bench: $(BENCHES)  ## timings, on a GPU each as a ratio to a floor or a peer in the same run; BENCH_ARGS: bench_conv's options
	@for bench in $(filter-out %/bench_conv,$(BENCHES)); do $$bench || exit 1; done
	@$(if $(NVCC),$(BUILD)/bench_conv $(BENCH_ARGS))

accuracy: $(TESTS)  ## on a GPU: every function over all inputs, PyTorch beside it, into tests/ACCURACY.md
	@$(TESTS) -tc='*accuracy: all 2^32*,accuracy: 2^24*' > $(BUILD)/accuracy.txt || { cat $(BUILD)/accuracy.txt; exit 1; }
	@python3 tests/tools/peer_accuracy.py $(BUILD)/accuracy.txt > $(BUILD)/ACCURACY.md
	@cp $(BUILD)/ACCURACY.md tests/ACCURACY.md

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

clean:  ## removes build/
	rm -rf $(BUILD)

# ---- objects ----

PARSED_ONCE := algorithm array bit charconv cmath cstddef cstdint cstdio cstdlib cstring functional initializer_list iterator limits \
  map memory mutex numeric optional set span string string_view type_traits unordered_map unordered_set utility variant vector
# A changed flag or compiler rebuilds: the stamp's content changes only then. With +, `make -n` sees it too.
FLAGS_NOW := $(CXX) $(CPPFLAGS) $(CXXFLAGS) $(PARSED_ONCE) | $(NVCC) $(NVCCFLAGS) | $(LDLIBS)
WHY_CPU   := $(if $(filter 0,$(CUDA)),CUDA=0,nvcc not found (set CUDA_HOME if it is elsewhere))
$(BUILD)/flags: FORCE
	+@mkdir -p $(BUILD)
	+@echo '$(FLAGS_NOW)' | cmp -s - $@ || { echo '$(FLAGS_NOW)' > $@; \
	  $(if $(NVCC),true,echo 'solder: $(WHY_CPU): building the CPU backend alone'); }
.PHONY: FORCE

$(BUILD)/%.cpp.o: %.cpp $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CXX $<) $(CXX) $(CPPFLAGS) $(CXXFLAGS) $(if $(filter $(PARSING),$<),$(PARSED)) -MMD -MP -c $< -o $@

# What the library's files include most, parsed once: a quarter of their time. Not behind ccache, which would keep no
# object; not for files with flags of their own, on which g++ 12 fell over when it had been parsed with -O1. With it g++ 12
# sees overflows in strings as well that are not there.
ifeq ($(patsubst g++%,g++,$(CXX)),g++)
PARSING := $(filter-out ops/elementwise/cpu.cpp ops/matmul/panel_cpu.cpp,$(LIB_CPP))
PARSED  := -include $(BUILD)/std.h -Wno-array-bounds -Wno-stringop-overflow -Wno-stringop-overread
$(PARSING:%=$(BUILD)/%.o): $(BUILD)/std.h.gch
$(BUILD)/std.h.gch: $(BUILD)/flags
	@printf '#include <%s>\n' $(PARSED_ONCE) > $(BUILD)/std.h
	$(call say,CXX $@) $(CXX) $(CPPFLAGS) $(CXXFLAGS) -x c++-header $(BUILD)/std.h -o $@
endif

$(HOPPER_CU:%=$(BUILD)/%.o): GENCODE := -gencode=arch=compute_90a,code=sm_90a
$(BUILD)/%.cu.o: %.cu $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,NVCC $<) $(NVCC) $(CPPFLAGS) $(NVCCFLAGS) -MMD -MP -c $< -o $@ 2> $@.log || { cat $@.log; exit 1; }
	@tests/tools/check_spills.sh $@.log

# Nobody looks at floating-point exceptions or errno; with either, loops with a choice or a root are not vectorised.
$(BUILD)/ops/elementwise/cpu.cpp.o: private CXXFLAGS += -fno-trapping-math -fno-math-errno

# The CPU's sums of products alone use FMA, which g++ makes of a product and a sum from -O2 on.
# GCC 13 and later tune for processors to which chains of FMAs are slow; the sums' rounding is not theirs to choose.
$(BUILD)/ops/matmul/panel_cpu.cpp.o: private CXXFLAGS += -O3 -ffp-contract=fast $(shell $(CXX) --param=avoid-fma-max-bits=0 \
  -E -x c++ /dev/null >/dev/null 2>&1 && echo --param=avoid-fma-max-bits=0)

$(BUILD)/runtime/version.cpp.o: CPPFLAGS += -DSOLDER_ARCHS='"$(ARCHS)"'
$(BUILD)/runtime/nvrtc.cpp.o: CPPFLAGS += -DSOLDER_CUDA_LIB='"$(CUDA_LIB)"'

# The text that generated elementwise kernels start with: these headers without comments and includes (NVRTC has no
# headers to include).
KERNEL_TEXT := runtime/dtype.h runtime/divide.h ops/ptx/follow.cuh \
               $(addprefix ops/elementwise/,op_info.h approx.h pair16.cuh formulas.h params.h apply.h io.cuh rows.cuh)
$(BUILD)/ops/elementwise/text.cpp: $(KERNEL_TEXT) Makefile
	@mkdir -p $(@D)
	@{ echo 'namespace solder { extern const char* const kElementwiseText; const char* const kElementwiseText = R"CUDA('; \
	  sed -E '/^ *(\/\/|#include|#pragma once)/d; s/^namespace SOLDER_PUBLIC/namespace/' $(KERNEL_TEXT); echo ')CUDA"; }'; } > $@
$(BUILD)/ops/elementwise/text.cpp.o: $(BUILD)/ops/elementwise/text.cpp $(BUILD)/flags
	$(call say,CXX $<) $(CXX) $(CPPFLAGS) $(CXXFLAGS) -c $< -o $@

$(LIB): $(LIB_OBJ)
	@rm -f $@
	$(call say,AR $@) ar rcs $@ $^

# What links the library is linked again where it is another one.
$(BUILD)/linked: FORCE
	+@mkdir -p $(BUILD)
	+@echo '$(LINKED)' | cmp -s - $@ || echo '$(LINKED)' > $@
$(EXAMPLES) $(CLI): $(BUILD)/linked

# By name too, as instantiations of the standard library's templates are visible.
$(BUILD)/exports.map: Makefile
	@echo '{ global: _ZN6solder*; _ZN[KRO]6solder*; _ZNK[RO]6solder*; _ZT[ISV]N6solder*; local: *; };' > $@
$(SO): $(LIB_OBJ) $(BUILD)/exports.map
	$(call say,LINK $@) $(CXX) -shared -Wl,-soname,$(SO_NAME) -Wl,--version-script=$(BUILD)/exports.map -Wl,-z,defs \
	  $(LIB_OBJ) $(LDLIBS) -o $@
	@ln -sf $(@F) $(BUILD)/$(SO_NAME)
	@ln -sf $(@F) $(BUILD)/libsolder.so

# Programs outside the library see what is installed: solder.h and all that it includes, under solder/, with includes
# spelled from there. solder.h comes last and stands for all.
$(PUBLIC): graph/solder.h $(BUILD)/flags
	@rm -rf $(BUILD)/include && mkdir -p $(@D)
	@$(CXX) -std=c++20 -I. -MM -MP -MT $@ -MF $(BUILD)/include.d $<
	@for header in $$(sed -n 's/:$$//p' $(BUILD)/include.d) $<; do mkdir -p $(@D)/$${header%/*} && \
	  sed -E 's,^(#include ")((runtime|ops|graph)/),\1solder/\2,' $$header > $(@D)/$$header || exit 1; done
	@mv $(@D)/$< $@
$(USER_OBJ): CPPFLAGS := -I$(BUILD)/include
$(USER_OBJ): $(PUBLIC)
$(EXAMPLES): $(BUILD)/%: $(BUILD)/examples/%.cpp.o $(LINKED)
	$(call say,LINK $@) $(CXX) $(filter %.o,$^) $(LINK_LIB) $(LINK_ZLIB) -o $@
$(BUILD)/katago: $(KATAGO_OBJ)
$(BUILD)/examples/katago/gzip.cpp.o: CPPFLAGS += -DKATAGO_WITH_ZLIB=$(ZLIB)
$(BUILD)/examples/katago/gzip.cpp.o: $(BUILD)/zlib_$(ZLIB)
$(BUILD)/zlib_$(ZLIB):
	@rm -f $(BUILD)/zlib_*
	@touch $@
# Pictures are read by stb, a package of headers.
$(BUILD)/stb.ok:
	@mkdir -p $(BUILD)
	@tests/tools/need_package.sh libstb-dev 'echo "#include <stb/stb_image_resize.h>" | $(CXX) -E -x c++ -'
	@touch $@
$(OCR_OBJ): | $(BUILD)/stb.ok
$(BUILD)/ocr: $(OCR_OBJ) $(LINKED)
	$(call say,LINK $@) $(CXX) $(filter %.o,$^) $(LINK_LIB) -o $@

# Configs are JSON, which nlohmann's headers read.
$(BUILD)/json.ok:
	@mkdir -p $(BUILD)
	@tests/tools/need_package.sh nlohmann-json3-dev 'echo "#include <nlohmann/json.hpp>" | $(CXX) -std=c++20 -E -x c++ -'
	@touch $@
$(TRITON_OBJ): | $(BUILD)/json.ok

$(NETWORKS): $(BUILD)/networks/%.o: $(BUILD)/examples/%.cpp.o
	@mkdir -p $(@D)
	@objcopy --localize-symbol=main $< $@
$(CLI): $(CLI_OBJ) $(NETWORKS) $(LINKED)
	$(call say,LINK $@) $(CXX) $(filter %.o,$^) $(LINK_LIB) -o $@
# Nothing of solder is seen by the server, which may have other backends.
$(TRITON): $(TRITON_OBJ) $(TRITON_PARTS) $(LIB) examples/triton/exports.map
	$(call say,LINK $@) $(CXX) -shared -Wl$(comma)--version-script=examples/triton/exports.map $(filter-out %.map,$^) $(LDLIBS) -o $@
$(BUILD)/libtriton_identity.so: $(BUILD)/tests/triton/identity_backend.cpp.o
	$(call say,LINK $@) $(CXX) -shared $^ -o $@

BENCH_OBJ := $(if $(NVCC),$(patsubst %,$(BUILD)/%.o,$(wildcard tests/bench/*.cu)))
$(BENCHES): CPPFLAGS += -DSOLDER_TEST_DATA='"$(CURDIR)/tests/data"'
$(BENCHES): $(BUILD)/%: tests/bench/%.cpp $(BENCH_OBJ) $(LIB)
	$(call say,CXX $<) $(CXX) $(CPPFLAGS) $(CXXFLAGS) -MMD -MP -MF $(BUILD)/$*.d $< $(BENCH_OBJ) $(LIB) $(LDLIBS) -o $@

$(BUILD)/bench_nhwc: BENCH_OBJ += $(NETWORKS)
$(BUILD)/bench_nhwc: $(NETWORKS)

# Networks of the examples on the CPU, for tests/bench/network_cpu_peers.py.
$(BUILD)/tests/bench/network_cpu.cpp.o: CPPFLAGS := -I. -I$(BUILD)/include
$(BUILD)/tests/bench/network_cpu.cpp.o: $(PUBLIC)
$(BUILD)/network_cpu: $(BUILD)/tests/bench/network_cpu.cpp.o $(NETWORKS) $(KATAGO_OBJ) $(LIB)
	$(call say,LINK $@) $(CXX) $^ $(LDLIBS) $(LINK_ZLIB) -o $@

# The library on a fake machine whose every call can fail: no GPU, cuBLAS or CUDA runtime in it.
FAULTS_OBJ := $(patsubst %,$(BUILD)/%.o,$(wildcard tests/faults/*.cpp) tests/support/main.cpp)
WRAPPED    := aligned_alloc free stat euidaccess readlink open fstat fchmod pread write close rename dlopen dlsym dlclose
$(BUILD)/faults: $(FAULTS_OBJ) $(LIB)
	$(call say,LINK $@) $(CXX) $^ $(WRAPPED:%=-Wl$(comma)--wrap=%) -pthread $(SANITIZE) -o $@

# Loses its GPU; a test runs it.
$(BUILD)/lost_device: $(BUILD)/tests/gpu/lost_device.cu.o $(LIB)
	$(call say,LINK $@) $(CXX) $^ $(LDLIBS) -o $@

# solder-run's parts and the examples' networks are tested beside the library; those tests see the installed layout.
CLI_TEST_OBJ := $(patsubst %,$(BUILD)/tests/unit/test_%.cpp.o,solder_run text_graph networks katago triton) $(BUILD)/tests/support/networks.cpp.o
$(CLI_TEST_OBJ): CPPFLAGS += -I$(BUILD)/include
$(CLI_TEST_OBJ): $(PUBLIC)
$(TESTS): $(TEST_OBJ) $(CLI_PARTS) $(NETWORK_PARTS) $(TRITON_TESTED) $(LIB)
	$(call say,LINK $@) $(CXX) $^ $(LDLIBS) $(LINK_ZLIB) -o $@

# doctest is the one package the tests need.
$(BUILD)/doctest.ok:
	@mkdir -p $(BUILD)
	@tests/tools/need_package.sh doctest-dev 'echo "#include <doctest/doctest.h>" | $(CXX) -std=c++20 -E -x c++ -'
	@touch $@
$(TEST_OBJ) $(FAULTS_OBJ): | $(BUILD)/doctest.ok
$(TEST_OBJ): CPPFLAGS += -DSOLDER_TEST_DATA='"$(CURDIR)/tests/data"'
$(patsubst %,$(BUILD)/tests/%.cpp.o,support/networks unit/test_onnx_nodes unit/test_onnx_models): CPPFLAGS += -DSOLDER_MODELS='"$(abspath $(MODELS))"'

-include $(LIB_OBJ:.o=.d) $(USER_OBJ:.o=.d) $(TEST_OBJ:.o=.d) $(FAULTS_OBJ:.o=.d) $(BUILD)/tests/gpu/lost_device.cu.d \
         $(BENCHES:%=%.d) $(BUILD)/tests/bench/network_cpu.cpp.d $(BUILD)/include.d

# ---- checks ----

headers: $(HEADERS:%=$(BUILD)/headers/%.ok)  ## each header compiles alone
$(BUILD)/headers/%.ok: % $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,HEADER $<) echo '#include "$<"' | $(CXX) $(CPPFLAGS) $(CXXFLAGS) -fsyntax-only -x c++ -
	@touch $@

layers:  ## includes one way, node kinds and PTX in one place, no file over 500 lines; README quotes 1_hello.cpp as it is
	@tests/tools/check_layers.sh $(KERNEL_TEXT)
	@tests/tools/check_readme.sh

FORMATTED = $(shell git ls-files '*.h' '*.cpp' '*.cu' '*.cuh')
format:  ## applies clang-format
	@clang-format -i $(FORMATTED)
format-check:  ## clang-format changes nothing
	@tests/tools/need_package.sh clang-format 'clang-format --version'
	@clang-format --dry-run -Werror $(FORMATTED)

PICTURES := examples/pictures
pictures: $(CLI)  ## draws README's pictures again: the architecture, a fusion, the headline's times (headline.csv)
	@tests/tools/need_package.sh graphviz 'dot -V'
	python3 $(PICTURES)/architecture.py > $(PICTURES)/architecture.svg
	python3 $(PICTURES)/bar_chart.py $(PICTURES)/headline.csv > $(PICTURES)/headline.svg
	$(CLI) residual --no-run --device cpu --graph $(PICTURES)/fusion.svg

sanitize: $(TESTS) $(BUILD)/planted_bug  ## compute-sanitizer over the GPU tests, on small shapes
	@tests/gpu/sanitize.sh $(TESTS) $(BUILD)/planted_bug $(PLANT)
$(BUILD)/planted_bug: tests/gpu/planted_bug.cu
	$(call say,NVCC $<) $(NVCC) -std=c++20 -O1 -lineinfo $(GENCODE) $< -o $@

# ---- reliability ----

faults: $(BUILD)/faults  ## every CUDA, cuBLAS, allocation and file call fails in turn, on a fake machine (needs nvcc, no GPU)
	@$(BUILD)/faults

tsan:  ## the thread tests of the CPU backend under ThreadSanitizer
	@$(MAKE) CUDA=0 BUILD=$(BUILD)/tsan SANITIZE='-fsanitize=thread -O1' \
	  TEST_SRC='tests/support/main.cpp tests/support/gpu.cpp tests/unit/test_threads.cpp tests/unit/test_cpu.cpp' CLI_PARTS= $(BUILD)/tsan/solder_tests
	@TSAN_OPTIONS=halt_on_error=1 $(BUILD)/tsan/solder_tests

# Random graphs and whole conformance tables say nothing more under a sanitizer and take long. A test asks for more
# memory than there is, and AddressSanitizer must let it hear so.
# -Wmaybe-uninitialized: g++ 12 sees it in std::regex under AddressSanitizer (GCC bug 105562).
ASAN_SKIP := *conformance*,networks:*,*random graphs*,*every unary function*,*conv_shapes*
asan: $(if $(NVCC),$(BUILD)/faults $(TESTS))  ## the CPU tests and the faults under AddressSanitizer and UBSan
	@$(MAKE) BUILD=$(BUILD)/asan CU_BUILD=$(BUILD) SANITIZE='-fsanitize=address,undefined -fno-sanitize-recover=undefined -O1 -Wno-maybe-uninitialized' \
	  $(BUILD)/asan/solder_tests $(if $(NVCC),$(BUILD)/asan/faults)
	@CUDA_VISIBLE_DEVICES= ASAN_OPTIONS=allocator_may_return_null=1 $(BUILD)/asan/solder_tests '--test-case-exclude=$(ASAN_SKIP)'
	@$(if $(NVCC),$(BUILD)/asan/faults)

SOAK ?= 1000000
soak: $(BUILD)/soak  ## SOAK=1000000 runs of mixed shapes, on the GPU or else the CPU: same bits, no drift of memory
	@$(BUILD)/soak $(SOAK)
$(BUILD)/soak: tests/tools/soak.cpp $(LIB)
	$(call say,CXX $<) $(CXX) $(CPPFLAGS) $(CXXFLAGS) -MMD -MP -MF $(BUILD)/soak.d $< $(LIB) $(LDLIBS) -o $@

# A quarter of the time for each format, over a library that clang has built with sanitizers.
FUZZ_SECONDS ?= 60
FUZZ_CHECKS  := address,undefined -fno-sanitize-recover=undefined -O1
FUZZERS      := $(patsubst %,$(BUILD)/fuzz_%,npy safetensors text_graph onnx)
fuzz: $(FUZZERS) $(BUILD)/fuzz_corpus  ## FUZZ_SECONDS=60 of libFuzzer on the loaders, text graphs and ONNX, with ASan and UBSan
	@tests/fuzz/run_fuzzers.sh $(BUILD) $(FUZZ_SECONDS)
$(BUILD)/fuzz_corpus: tests/fuzz/fuzz_corpus.cpp tests/cases/text_graph_sample.h tests/support/onnx_writer.h \
                      examples/solder_run/built_ins.cpp $(wildcard examples/solder_run/text_*.cpp) $(PUBLIC) $(LIB)
	$(call say,CXX $<) $(CXX) -std=c++20 -I. -I$(BUILD)/include $(filter %.cpp,$^) $(LIB) $(LDLIBS) -o $@
.PHONY: fuzz_library
fuzz_library:
	@tests/tools/need_package.sh clang 'clang++ --version'
	@$(MAKE) CUDA=0 BUILD=$(BUILD)/fuzz CXX=clang++ WARNINGS=-w SANITIZE='-fsanitize=fuzzer-no-link,$(FUZZ_CHECKS)' $(BUILD)/fuzz/libsolder.a
$(BUILD)/fuzz_text_graph: $(wildcard examples/solder_run/text_*.cpp)
$(FUZZERS): $(BUILD)/fuzz_%: tests/fuzz/fuzz_%.cpp tests/fuzz/fuzz_memory.h tests/support/onnx_writer.h $(PUBLIC) fuzz_library
	$(call say,CLANG $<) clang++ -std=c++20 -g -I. -I$(BUILD)/include -DSOLDER_WITH_CUDA=0 -fsanitize=fuzzer,$(FUZZ_CHECKS) $(filter %.cpp,$^) $(BUILD)/fuzz/libsolder.a -pthread -o $@

# Branches in the sense of llvm-cov: each condition of the source, taken and not taken; edges that only an exception
# takes are none. Everything but the CUDA half of the errors, which `make faults` goes through.
COVERED := runtime/file.cpp runtime/npy.cpp runtime/safetensors.cpp runtime/text_reader.cpp runtime/tensor_map.cpp \
           runtime/shape.cpp graph/graph.cpp ops/conv/conv.cpp runtime/check.cpp runtime/check.h
coverage:  ## branch coverage of loaders, shape inference and errors by their tests; at least 95 percent (needs clang)
	@tests/tools/need_package.sh llvm 'llvm-cov --version'
	@$(MAKE) CUDA=0 BUILD=$(BUILD)/coverage CXX=clang++ WARNINGS=-w \
	  SANITIZE='-fprofile-instr-generate -fcoverage-mapping -O1' CLI_PARTS= $(BUILD)/coverage/solder_tests \
	  TEST_SRC='tests/support/main.cpp tests/support/gpu.cpp $(patsubst %,tests/unit/test_%.cpp,file npy safetensors runtime graph composed pad views conv errors)'
	@LLVM_PROFILE_FILE=$(BUILD)/coverage/tests.profraw $(BUILD)/coverage/solder_tests >/dev/null
	@llvm-profdata merge $(BUILD)/coverage/tests.profraw -o $(BUILD)/coverage/tests.profdata
	@llvm-cov export -summary-only $(BUILD)/coverage/solder_tests -instr-profile=$(BUILD)/coverage/tests.profdata $(COVERED) | \
	  python3 tests/tools/report_coverage.py 95

# What each group is for stands in .clang-tidy.
TIDY_CPP = $(filter-out $(CUDA_ONLY),$(call find_lib,*.cpp))
tidy:  ## clang-tidy and cppcheck over the library
	@tests/tools/need_package.sh clang-tidy 'clang-tidy --version'
	@tests/tools/need_package.sh cppcheck 'cppcheck --version'
	@printf '%s\n' $(TIDY_CPP) | xargs -P2 -n4 sh -c 'clang-tidy --quiet --warnings-as-errors="*" "$$@" -- -std=c++20 -I. -DSOLDER_WITH_CUDA=0 2>/dev/null' tidy
	@cppcheck --quiet -j2 --std=c++20 --language=c++ --enable=warning,performance,portability --inline-suppr \
	  --error-exitcode=1 -I. -DSOLDER_WITH_CUDA=0 --suppress=missingIncludeSystem $(TIDY_CPP)

loc:  ## lines of code of the library: no blanks, no comment lines
	@count() { find "$$@" -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' | xargs cat | grep -vcE '^\s*(//.*)?$$'; }; \
	echo "runtime $$(count runtime), ops $$(count ops), graph $$(count graph): $$(count $(LIBRARY)) in all," \
	  "$$(count ops/conv/rows ops/conv/window ops/conv/range ops/conv/epilogue ops/ptx) of them the fused Hopper convolutions"

# ---- install ----

# PREFIX may be relative to here; it and DESTDIR may have spaces. All users can read what is installed, whoever built it.
PREFIX_PATH = $(shell realpath -ms -- '$(PREFIX)')
PC_LIBS     = -L"$${prefix}/lib" $(if $(filter 1,$(SHARED)),-Wl$(comma)-rpath$(comma)"$${prefix}/lib" -lsolder,-lsolder $(LDLIBS))

# The CMake package says where things are by where it is.
define CMAKE_CONFIG
# find_package(solder) makes the target solder::solder.
get_filename_component(_solder_prefix "$${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
$(if $(filter 1,$(SHARED)),,include(CMakeFindDependencyMacro)
find_dependency(Threads)
$(if $(NVCC),find_dependency(CUDAToolkit)))
if(NOT TARGET solder::solder)
  add_library(solder::solder $(if $(filter 1,$(SHARED)),SHARED,STATIC) IMPORTED)
  set_target_properties(solder::solder PROPERTIES
    IMPORTED_LOCATION "$${_solder_prefix}/lib/$(notdir $(LINKED))"
    $(if $(filter 1,$(SHARED)),IMPORTED_SONAME $(SO_NAME),INTERFACE_LINK_LIBRARIES "Threads::Threads$(if $(NVCC),;CUDA::cublas;CUDA::cudart_static)")
    INTERFACE_INCLUDE_DIRECTORIES "$${_solder_prefix}/include"
    INTERFACE_COMPILE_FEATURES cxx_std_20)
endif()
unset(_solder_prefix)
endef
# Before 1.0 another minor version is another interface.
define CMAKE_VERSION
set(PACKAGE_VERSION $(VERSION))
set(PACKAGE_VERSION_COMPATIBLE FALSE)
set(PACKAGE_VERSION_EXACT FALSE)
string(FIND "$(VERSION)." "$${PACKAGE_FIND_VERSION}." _solder_at)
if(_solder_at EQUAL 0 OR ("$${PACKAGE_FIND_VERSION_MAJOR}.$${PACKAGE_FIND_VERSION_MINOR}" STREQUAL "$(basename $(VERSION))"
    AND NOT PACKAGE_FIND_VERSION VERSION_GREATER PACKAGE_VERSION))
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
  set(PACKAGE_VERSION_EXACT TRUE)
endif()
unset(_solder_at)
endef
CMAKE_FILES := $(BUILD)/solder-config.cmake $(BUILD)/solder-config-version.cmake
$(BUILD)/solder-config.cmake: export TEXT = $(CMAKE_CONFIG)
$(BUILD)/solder-config-version.cmake: export TEXT = $(CMAKE_VERSION)
$(CMAKE_FILES): Makefile $(BUILD)/flags $(BUILD)/linked
	@echo "$$TEXT" > $@

install: $(LINKED) $(PUBLIC) $(CLI) $(CMAKE_FILES)  ## public headers, the library, solder.pc, a CMake package and solder-run under PREFIX (and DESTDIR)
	@umask 022 && to='$(DESTDIR)$(PREFIX_PATH)' && mkdir -p "$$to/bin" "$$to/lib/pkgconfig" "$$to/lib/cmake/solder" "$$to/include" && \
	rm -f "$$to"/lib/libsolder.* && cp -P $(if $(filter 1,$(SHARED)),$(SO) $(BUILD)/$(SO_NAME) $(BUILD)/libsolder.so,$(LIB)) "$$to/lib/" && \
	install $(CLI) "$$to/bin/" && install -m 644 $(CMAKE_FILES) "$$to/lib/cmake/solder/" && \
	rm -rf "$$to/include/solder" && cp -r $(BUILD)/include/solder "$$to/include/" && \
	chmod -R a+rX "$$to/include/solder" "$$to"/lib/libsolder.* && \
	printf '%s\n' 'prefix=$(PREFIX_PATH)' 'Name: solder' 'Description: minimal CUDA deep-learning runtime' 'Version: $(VERSION)' \
	  'Cflags: -I"$${prefix}/include"' 'Libs: $(PC_LIBS)' > "$$to/lib/pkgconfig/solder.pc" && \
	echo "solder is in $$to"

endif
