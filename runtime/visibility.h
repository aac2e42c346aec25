#pragma once

/// Stands in the namespace of public headers: what is declared there can be seen of a shared library, and nothing else.
#define SOLDER_PUBLIC [[gnu::visibility("default")]]
