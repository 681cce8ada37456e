;; A component that greets: `greet: func() -> string` and `answer: func() -> u32`.
(component
  (core module $core
    (memory (export "memory") 1)
    ;; The lifted string result: a pointer and a length, then the text itself.
    (data (i32.const 16) "\20\00\00\00\17\00\00\00")
    (data (i32.const 32) "hello from a component!")
    (func (export "greet") (result i32) (i32.const 16))
    (func (export "answer") (result i32) (i32.const 42)))
  (core instance $instance (instantiate $core))
  (alias core export $instance "memory" (core memory $memory))
  (alias core export $instance "greet" (core func $greet))
  (alias core export $instance "answer" (core func $answer))
  (func (export "greet") (result string) (canon lift (core func $greet) (memory $memory)))
  (func (export "answer") (result u32) (canon lift (core func $answer))))
