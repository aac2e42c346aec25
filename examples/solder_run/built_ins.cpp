// In solder-run's own format: `solder-run --show NAME` prints one to start from.
#include "built_ins.h"

namespace solder_run {

const BuiltIn kBuiltIns[] = {
    {"headline", "conv 3x3, 64 -> 128 channels, then mish of mish: the model of README's figures",
     R"(input x 64,64,256,256
parameter conv.weight 128,64,3,3
parameter conv.bias 128
conv = conv2d x conv.weight conv.bias
inner = mish conv
y = mish inner
output y
)"},
    {"residual", "two convolutions around a shortcut, as in ResNet-18, with mish",
     R"(input x 16,64,56,56
parameter conv1.weight 64,64,3,3
parameter conv1.bias 64
parameter conv2.weight 64,64,3,3
parameter conv2.bias 64
conv1 = conv2d x conv1.weight conv1.bias padding=1
hidden = mish conv1
conv2 = conv2d hidden conv2.weight conv2.bias padding=1
sum = add conv2 x
y = mish sum
output y
)"},
    {"gated", "a convolution in two branches whose results are gated and added: fusion has choices",
     R"(input x 4,32,64,64
parameter left.weight 32,32,3,3
parameter left.bias 32
parameter right.weight 32,32,1,1
left = conv2d x left.weight left.bias padding=1
right = conv2d x right.weight
gate = sigmoid right
active = silu left
gated = mul active gate
y = add gated x
output y
output gate
)"},
    {"chain", "eight elementwise functions over 2^24 numbers: one pass over memory",
     R"(input x 16777216
a = mish x
b = mul a 1.5
c = add b 0.25
d = sigmoid c
e = sub d 0.5
f = leaky_relu e slope=0.1
g = tanh f
y = mish g
output y
)"},
    {"mlp", "three linear layers, 784 -> 512 -> 256 -> 10, with gelu",
     R"(input x 128,784
parameter fc1.weight 512,784
parameter fc1.bias 512
parameter fc2.weight 256,512
parameter fc2.bias 256
parameter fc3.weight 10,256
parameter fc3.bias 10
fc1 = linear x fc1.weight fc1.bias
act1 = gelu fc1
fc2 = linear act1 fc2.weight fc2.bias
act2 = gelu fc2
y = linear act2 fc3.weight fc3.bias
output y
)"},
};
const size_t kNumBuiltIns = std::size(kBuiltIns);

}  // namespace solder_run
