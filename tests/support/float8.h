// 8-bit numbers by the book, in fp64, beside runtime/dtype.h's arithmetic on bits.
#ifndef ISTHMUS_TESTS_SUPPORT_FLOAT8_H_
#define ISTHMUS_TESTS_SUPPORT_FLOAT8_H_

#include <cmath>
#include <cstdint>
#include <limits>

#include "runtime/dtype.h"

namespace isthmus::reference {

// The entries of a format's table (Micikevicius et al. 2022, arXiv:2209.05433, table 1).
struct Float8Format {
  DType dtype;
  int mantissa_bits, bias, largest_code;
  double largest;
  bool infinity;

  double ValueOf(int code) const {
    const double sign = code >= 128 ? -1 : 1;
    const int magnitude = code & 0x7f, mantissa = magnitude & ((1 << mantissa_bits) - 1);
    const int exponent = magnitude >> mantissa_bits;
    if (magnitude > largest_code) {
      const bool infinite = infinity && magnitude == largest_code + 1;
      return infinite ? sign * std::numeric_limits<double>::infinity() : std::nan("");
    }
    const double unit = std::ldexp(1.0, -mantissa_bits);
    return exponent == 0 ? sign * std::ldexp(mantissa * unit, 1 - bias)
                         : sign * std::ldexp(1 + mantissa * unit, exponent - bias);
  }

  // Returns the largest of the finite numbers up to `magnitude`.
  int CodeBelow(double magnitude) const {
    int below = 0, above = largest_code + 1;
    while (above - below > 1) {
      const int middle = (below + above) / 2;
      (ValueOf(middle) <= magnitude ? below : above) = middle;
    }
    return below;
  }

  // Returns the nearest finite number, of two the one with the even code; NaN for NaN.
  double Nearest(double x) const {
    if (std::isnan(x)) return x;
    int code = CodeBelow(std::fabs(x));
    if (code < largest_code) {
      const double down = std::fabs(x) - ValueOf(code), up = ValueOf(code + 1) - std::fabs(x);
      if (up < down || (up == down && code % 2 == 1)) ++code;
    }
    return std::copysign(ValueOf(code), x);
  }
};

inline constexpr Float8Format kE4M3 = {DType::kFloat8E4M3, 3, 7, 0x7e, 448, false};
inline constexpr Float8Format kE5M2 = {DType::kFloat8E5M2, 2, 15, 0x7b, 57344, true};

}  // namespace isthmus::reference

#endif  // ISTHMUS_TESTS_SUPPORT_FLOAT8_H_
