/*
 * Simulated Metal: what the sanitizers are told. Part of test programs that are built with one.
 *
 * Copyright 2026 The Metal Streams authors
 * SPDX-License-Identifier: Apache-2.0
 *
 * Leaks. GCC's Objective-C runtime and GNUstep keep what they set up once: tables of classes, selectors and methods,
 * which come from objc_malloc, and what the first messages to a class make, all sent by set_up_foundation. Nothing
 * else is left out, and stacks are unwound in full, so that an object of Foundation is reported with the code that
 * leaked it.
 *
 * Deadlocks. The runtime and GNUstep take their locks in both orders while they are loaded, by one thread.
 */
const char *__asan_default_options(void);
const char *__lsan_default_options(void);
const char *__lsan_default_suppressions(void);
const char *__tsan_default_options(void);
const char *__tsan_default_suppressions(void);

const char *__asan_default_options(void) {
  return "fast_unwind_on_malloc=0:detect_stack_use_after_return=0";
}

const char *__lsan_default_options(void) {
  return "print_suppressions=0";
}

const char *__lsan_default_suppressions(void) {
  return "leak:objc_malloc\n"
         "leak:class_copyMethodList\n"
         "leak:set_up_foundation\n";
}

const char *__tsan_default_options(void) {
  return "halt_on_error=1:second_deadlock_stack=1";
}

const char *__tsan_default_suppressions(void) {
  return "deadlock:libobjc.so\n"
         "deadlock:libgnustep-base.so\n";
}
