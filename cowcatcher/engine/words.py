# mypy: allow-untyped-defs, allow-untyped-calls
"""What compiled code needs and Python has no word for: addresses, unaligned words, 128-bit sums, prefetching.

Each function here is one or two machine instructions, given to numba as LLVM. An address is an int64, so that address
arithmetic never mixes signed and unsigned numbers (numba would make a float of the two).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

#: numba's own annotations describe what is decorated and not what it becomes.
intrinsic: Any = extending.intrinsic
register_jitable: Any = extending.register_jitable

_I8, _I32, _I64, _I128 = (ir.IntType(bits) for bits in (8, 32, 64, 128))


def _pointer_maker(dtype: types.Type) -> Any:
    pointer_type = types.CPointer(dtype)

    def make(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(pointer_type))

        return pointer_type(types.int64), codegen

    return make


@intrinsic
def bytes_at(typingctx, address):
    """The bytes from ``address`` on."""
    return _pointer_maker(types.uint8)(typingctx, address)


@intrinsic
def halves_at(typingctx, address):
    """16-bit numbers."""
    return _pointer_maker(types.uint16)(typingctx, address)


@intrinsic
def ints_at(typingctx, address):
    """32-bit numbers."""
    return _pointer_maker(types.int32)(typingctx, address)


@intrinsic
def indices_at(typingctx, address):
    """32-bit numbers without a sign."""
    return _pointer_maker(types.uint32)(typingctx, address)


@intrinsic
def longs_at(typingctx, address):
    """64-bit numbers."""
    return _pointer_maker(types.int64)(typingctx, address)


@intrinsic
def words_at(typingctx, address):
    """64-bit numbers without a sign."""
    return _pointer_maker(types.uint64)(typingctx, address)


@intrinsic
def address_of(typingctx, pointer):
    """The address that a pointer holds."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ptrtoint(args[0], _I64)

    return types.int64(pointer), codegen


@intrinsic
def beyond(typingctx, pointer, count):
    """The pointer ``count`` elements further on."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        count = context.cast(builder, args[1], signature.args[1], types.int64)
        return builder.gep(args[0], [count])

    return pointer(pointer, count), codegen


def _word_pointer(builder: Any, args: Any) -> Any:
    address = builder.add(builder.ptrtoint(args[0], _I64), args[1])
    return builder.inttoptr(address, _I64.as_pointer())


@intrinsic
def load_word(typingctx, pointer, offset):
    """The 64-bit word ``offset`` bytes after ``pointer``, wherever that is."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        offset = context.cast(builder, args[1], signature.args[1], types.int64)
        return builder.load(_word_pointer(builder, (args[0], offset)), align=1)

    return types.uint64(pointer, offset), codegen


@intrinsic
def store_word(typingctx, pointer, offset, word):
    """Write a 64-bit word ``offset`` bytes after ``pointer``, wherever that is."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        offset = context.cast(builder, args[1], signature.args[1], types.int64)
        builder.store(args[2], _word_pointer(builder, (args[0], offset)), align=1)
        return context.get_dummy_value()

    return types.none(pointer, offset, types.uint64), codegen


@intrinsic
def copy_words(typingctx, to, source, offset, count):
    """Copy ``count`` words (a literal number) ``offset`` bytes after both pointers, reading all before writing any."""
    if not isinstance(count, types.IntegerLiteral):
        return None
    kind = ir.VectorType(_I64, count.literal_value)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        offset = context.cast(builder, args[2], signature.args[2], types.int64)
        read = builder.bitcast(_word_pointer(builder, (args[1], offset)), kind.as_pointer())
        written = builder.bitcast(_word_pointer(builder, (args[0], offset)), kind.as_pointer())
        builder.store(builder.load(read, align=1), written, align=1)
        return context.get_dummy_value()

    return types.none(to, source, offset, count), codegen


@intrinsic
def copy_bytes(typingctx, to, at, source, source_at, count):
    """Copy ``count`` bytes (a literal number), all of them read before any is written."""
    if not isinstance(count, types.IntegerLiteral):
        return None
    kind = ir.IntType(8 * count.literal_value)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = context.cast(builder, args[1], signature.args[1], types.int64)
        source_at = context.cast(builder, args[3], signature.args[3], types.int64)
        read = builder.bitcast(_word_pointer(builder, (args[2], source_at)), kind.as_pointer())
        written = builder.bitcast(_word_pointer(builder, (args[0], at)), kind.as_pointer())
        builder.store(builder.load(read, align=1), written, align=1)
        return context.get_dummy_value()

    return types.none(to, at, source, source_at, count), codegen


@register_jitable
def copy_state(to, source, size):
    """Copy ``size`` bytes, a multiple of 8."""
    for pair in range(size >> 4):
        copy_words(to, source, pair << 4, 2)
    if size & 8:
        copy_words(to, source, size - 8, 1)


@intrinsic
def prefetch(typingctx, address):
    """Ask for the cache line at ``address``, to be read soon."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], _I8.as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [pointer, _I32(0), _I32(3), _I32(1)])
        return context.get_dummy_value()

    return types.none(types.int64), codegen


@intrinsic
def plus_product(typingctx, low, high, key_low, key_high, factor):
    """``(low, high)`` + key * factor modulo 2**128, as (low, high); an int64 factor may be negative."""
    signed = factor.signed

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def wide(low: Any, high: Any) -> Any:
            return builder.or_(builder.zext(low, _I128), builder.shl(builder.zext(high, _I128), _I128(64)))

        factor = (builder.sext if signed else builder.zext)(args[4], _I128)
        total = builder.add(wide(args[0], args[1]), builder.mul(wide(args[2], args[3]), factor))
        low = builder.trunc(total, _I64)
        high = builder.trunc(builder.lshr(total, _I128(64)), _I64)
        return context.make_tuple(builder, signature.return_type, (low, high))

    word = types.uint64
    return types.UniTuple(word, 2)(word, word, word, word, types.int64 if signed else word), codegen
