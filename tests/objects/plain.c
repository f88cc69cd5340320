/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plain: a shared object that has never heard of Manta.
 */
int plain_answer(void);

__attribute__((visibility("default"))) int plain_answer(void)
{
    return 42;
}
