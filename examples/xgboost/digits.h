/* SPDX-License-Identifier: Apache-2.0 */
/*
 * digits: what the program that trains and the deployment that predicts agree on.
 *
 * An image has 8 by 8 pixels, row by row, each 0 (white) to 16 (black), and shows a digit.
 */
#ifndef DIGITS_H
#define DIGITS_H

enum { PIXEL_COUNT = 64, PIXEL_LIMIT = 16, DIGIT_COUNT = 10 };

#endif
