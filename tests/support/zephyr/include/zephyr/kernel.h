/* What our sample needs of Zephyr's kernel.h, for a PC. */
#ifndef STAND_IN_KERNEL_H
#define STAND_IN_KERNEL_H
#include <stddef.h>
#include <stdint.h>
#endif
