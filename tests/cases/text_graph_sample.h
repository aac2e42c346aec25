#pragma once
// Texts in solder-run's format: seeds of its fuzzer and mutations, and a test of its parser.

#include <string>

namespace samples {

inline const std::string kEverything = R"(# every form of every line
input x 2,8,9,7
input half 2,8,9,7 float16   # to the end of the line
input scale scalar
parameter 0.weight 6, 4 ,3,2
parameter /a-1/bias:0 6

a=conv2d x 0.weight /a-1/bias:0 stride=2,1 padding = 1, 0,2 , 1 dilation=1 groups=2
b = leaky_relu a slope=0.25
c = elu b
d = clip c low=-1 high=6
e = sub 1 d
f = pow e +2e0
g = add f f
h = cast half dtype=float32
i = cast h dtype=float32
k = mul x h
l = mul scale k
m = slice l axis=-1 start=1 stop=-1 step=2
n = slice m axis=1 step=-1
output g
output n
)";

// Four results of 2^62 bytes.
inline const std::string kOuterProducts = R"(input a 1073741824,1
input b 1073741824
y = mul a b
z = add a b
u = sub a b
v = div a b
output y
output z
output u
output v
)";

}  // namespace samples
